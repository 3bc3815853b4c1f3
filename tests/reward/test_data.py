import numpy as np
import pytest
import torch

from fgr.images import codec
from fgr.reward import data as batches
from fgr.reward import splits


@pytest.fixture(scope="module")
def rows(data):
    return splits.open_split(str(data), "train")


def test_crops_are_aligned(rows):
    """Wherever the mask is empty the composite is the reference, where it is full it is the SR image, in every orientation."""
    samples = batches.Samples(rows, crop=48, flips=True)
    seen = set()
    for seed in range(24):
        item = samples[(seed % 2, seed)]  # an ellipse and a polygon
        assert item["composite"].shape == (3, 48, 48)
        assert item["target"].shape == item["mask"].shape == (1, 48, 48)
        inside = np.broadcast_to(item["mask"] > 0, item["sr"].shape)
        assert np.array_equal(item["composite"][~inside], item["reference"][~inside])
        assert np.array_equal(item["composite"][inside], item["sr"][inside])
        np.testing.assert_allclose(item["target"], 0.8 * item["mask"], atol=2e-4)
        seen.add(item["composite"].tobytes())
    assert len(seen) > 18


def test_maps_of_whole_restored_images_are_cut_alike_and_may_be_absent(rows):
    item = batches.Samples(rows, crop=48, flips=True)[(0, 3)]
    assert item["sr_target"].shape == (1, 48, 48)
    np.testing.assert_allclose(item["sr_target"] * item["mask"], item["target"], atol=3e-4)
    earlier = rows.remove_columns("sr_map")
    assert batches.Samples(earlier, crop=48)[(0, 3)].keys() == item.keys() - {"sr_target"}


def test_whole_images_come_as_they_are_stored(rows):
    item = batches.Samples(rows, crop=0)[(0, 0)]
    assert np.array_equal(item["reference"].transpose(1, 2, 0), codec.decode_rgb(rows[0]["reference"]["bytes"]))


def test_a_kept_row_gives_the_same_crops(rows):
    decoded = []

    class Counted(batches.Samples):
        def decode(self, row):
            decoded.append(row["id"])
            return super().decode(row)

    fresh, kept = batches.Samples(rows, 48, True), Counted(rows, 48, True, cache_bytes=1 << 20)
    for _ in range(2):
        for name, value in fresh[(3, 7)].items():
            assert np.array_equal(value, kept[(3, 7)][name])
    assert len(decoded) == 1


def test_windows_find_the_mask():
    mask = np.zeros((200, 300), np.uint8)
    mask[150, 250] = 255
    rng = np.random.default_rng(0)
    found = [mask[batches.window(mask, 32, rng)] for _ in range(400)]
    assert all(cut.shape == (32, 32) for cut in found)
    assert 0.68 < np.mean([cut.any() for cut in found]) < 0.84


def test_draws_depend_on_seed_and_step_alone():
    whole = list(batches.Draws(10, 4, seed=3, steps=6))
    assert list(batches.Draws(10, 4, seed=3, steps=6, start=4)) == whole[4:]
    assert list(batches.Draws(10, 4, seed=4, steps=6)) != whole
    epoch = [row for batch in whole for row, _ in batch][:20]
    assert sorted(epoch[:10]) == sorted(epoch[10:]) == list(range(10))
    assert len({seed for batch in whole for _, seed in batch}) == 24


def test_processes_share_the_rows():
    parts = [list(batches.Draws(8, 2, seed=0, steps=2, part=(rank, 2))) for rank in range(2)]
    rows = [row for part in parts for batch in part for row, _ in batch]
    assert sorted(rows) == list(range(8))


def test_a_stream_goes_on_where_it_was(data):
    """Reading on after 3 rows gives what an undisturbed stream gives, over the end of an epoch."""
    samples = batches.Samples(splits.open_split(str(data), "train", streaming=True), 48, True)
    whole = iter(batches.Stream(samples, seed=1, skip=0, part=(0, 1), buffer=4))
    later = iter(batches.Stream(samples, seed=1, skip=3, part=(0, 1), buffer=4))
    first = [next(whole)["composite"] for _ in range(16)]
    for number in range(13):
        assert np.array_equal(next(later)["composite"], first[number + 3])


def test_the_loader_makes_tensors(rows):
    draws = batches.Draws(len(rows), 3, 0, 2)
    loaded = list(batches.loader(batches.Samples(rows, 48, distorted=True), draws, workers=0))
    assert len(loaded) == 2
    assert loaded[0]["distorted"].shape == (3, 3, 48, 48)
    assert loaded[0]["composite"].dtype == torch.uint8
    assert loaded[0]["target"].dtype == torch.float32


def test_every_distortion_damages(rows):
    image = codec.decode_rgb(rows[0]["reference"]["bytes"])
    rng = np.random.default_rng(0)
    for distortion in batches.DISTORTIONS.values():
        errors = [np.abs(distortion(image, level, rng).astype(int) - image).mean() for level in (0.05, 0.9)]
        assert 0 < errors[0] < errors[1]
    assert batches.distorted_globally(image, rng).shape == image.shape
