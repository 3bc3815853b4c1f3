import numpy as np
import pytest
import torch

from fgr.dataset.tables import write_table
from fgr.errors import UserError
from fgr.images import codec
from fgr.reward import batches, distort, source


@pytest.fixture(scope="module")
def rows(data):
    return source.open_split(str(data), "train")


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


def test_whole_images_come_as_they_are_stored(rows):
    item = batches.Samples(rows, crop=0)[(0, 0)]
    assert np.array_equal(item["reference"].transpose(1, 2, 0), codec.decode_rgb(rows[0]["reference"]["bytes"]))


def test_a_kept_row_gives_the_same_crops(rows):
    fresh, kept = batches.Samples(rows, 48, True), batches.Samples(rows, 48, True, cache_bytes=1 << 20)
    for _ in range(2):
        for name, value in fresh[(3, 7)].items():
            assert np.array_equal(value, kept[(3, 7)][name])
    assert len(kept._kept) == 1


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
    samples = batches.Samples(source.open_split(str(data), "train", streaming=True), 48, True)
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
    for distortion in distort.DISTORTIONS.values():
        errors = [np.abs(distortion(image, level, rng).astype(int) - image).mean() for level in (0.05, 0.9)]
        assert 0 < errors[0] < errors[1]
    assert distort.distorted(image, rng).shape == image.shape


def test_excluded_models_are_left_out_and_misspelt_ones_named(data):
    rows = source.open_split(str(data), "train", ["beta"])
    assert set(rows["model"]) == {"alpha"}
    with pytest.raises(UserError, match="did you mean 'beta'"):
        source.open_split(str(data), "train", ["betta"])


def test_peoples_labels_are_joined(data, tmp_path, write_card):
    human = np.full((96, 96), 51, np.uint8)
    row = {
        "id": "row-0", "score_mean": 40.0, "score_std": 5.0, "raters": 3, "degradation_map": codec.encode_mask(human),
        "agreement": 0.75, "rejected_raters": [],
    }  # fmt: skip
    joined = tmp_path / "data"
    (joined / "samples").mkdir(parents=True)
    for file in (data / "samples").iterdir():
        (joined / "samples" / file.name).symlink_to(file)
    write_table(joined / "consensus" / "part-0.parquet", "consensus", [row])
    chosen = [{"left_id": "row-0", "right_id": "row-2", "annotator": "a", "choice": "tie"}]
    write_table(joined / "preferences" / "part-0.parquet", "preferences", [*chosen, chosen[0] | {"right_id": "elsewhere"}])
    splits = [{"split": split, "path": f"samples/{split}-*.parquet"} for split in ("train", "validation", "test")]
    small = {name: [{"split": "train", "path": f"{name}/*.parquet"}] for name in ("consensus", "preferences")}
    write_card(joined, {"samples": splits} | small)
    rows = source.open_split(str(joined), "train")
    samples = batches.Samples(rows, 48, consensus=source.open_consensus(str(joined)))
    place = list(rows["id"]).index("row-0")
    item = samples[(place, 0)]
    assert item["human_score"] == pytest.approx(0.4)
    assert (item["human_weight"], item["human_map_weight"]) == (1, 0.75)
    assert np.allclose(item["human_map"], 0.2)
    assert samples[((place + 1) % 12, 0)]["human_weight"] == 0
    pairs = source.open_preferences(str(joined), rows)
    assert pairs == [(place, list(rows["id"]).index("row-2"), 0.5)]
    pair = batches.Pairs(samples, pairs)[(0, 5)]
    assert pair["choice"] == 0.5
    assert pair["left"].shape == (3, 48, 48)


def test_datasets_that_cannot_be_used_are_sentences(data, tmp_path):
    with pytest.raises(UserError, match="no dataset at"):
        source.open_split(str(tmp_path / "nothing"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot be opened|is no FGR dataset"):
        source.open_split(str(tmp_path / "empty"), "train")
