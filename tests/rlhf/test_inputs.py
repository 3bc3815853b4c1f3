"""Inputs: replayed exactly, cut alike, the same batches whenever they are asked for."""

import shutil

import numpy as np
import pytest
import torch

import fgr
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.rlhf import inputs
from fgr.sr import Job, open_upscaler


@pytest.fixture(scope="module")
def replayed(tiny) -> inputs.Replayed:
    return inputs.Replayed(str(tiny), "train", 4)


def test_the_inputs_are_those_that_the_rows_were_restored_from(tiny, replayed):
    rows = fgr.load_samples(tiny, "train")
    wanted = next(row for row in rows if row["model"] == "realesr-animevideov3")
    pairs = [replayed[index] for index in range(len(replayed))]
    low = next(low for low, reference in pairs if np.array_equal(reference, wanted["reference"]))
    upscaler = open_upscaler("realesr-animevideov3", scale=4)
    assert np.array_equal(upscaler.upscale([Job(low, "", (128, 128), (0, 0, 128))])[0], wanted["sr"])


def test_a_degraded_reference_counts_once_however_many_rows_it_has(tiny, replayed):
    rows = fgr.load_samples(tiny, "train", ["source_id", "degradation"])
    distinct = {(row["source_id"], row["degradation"]) for row in rows}
    assert len(replayed) == len(distinct) < len(rows)


def test_the_reference_is_cut_mirrored_and_turned_with_its_input():
    low = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    pair = low, low.repeat(4, 0).repeat(4, 1)
    seen = set()
    for seed in range(40):
        small, large = inputs.cut(pair, 4, 4, True, np.random.default_rng(seed))
        assert small.shape == (4, 4, 3)
        assert np.array_equal(large[::4, ::4], small)
        seen.add(small.tobytes())
    assert len(seen) > 15


def test_a_batch_depends_on_its_number_alone(replayed):
    whole = list(inputs.batches(replayed, 4, 16, 3, True, 5, 0, 6))
    later = list(inputs.batches(replayed, 4, 16, 3, True, 5, 4, 6))
    assert torch.equal(whole[4].low, later[0].low)
    assert torch.equal(whole[5].reference, later[1].reference)
    assert not torch.equal(whole[0].low, whole[4].low)


def test_processes_share_out_the_images_without_overlap(replayed):
    count = len(replayed)
    parts = [list(inputs.batches(replayed, 4, 0, 1, False, 5, 0, count // 2, (rank, 2))) for rank in (0, 1)]
    seen = [batch.low.numpy().tobytes() for part in parts for batch in part]
    assert len(set(seen)) == len(seen)


def test_fixed_crops_are_the_same_every_time_and_repeat_images_only_when_they_must(replayed):
    first, again = (inputs.fixed(replayed, 4, 16, len(replayed) + 2) for _ in range(2))
    assert len(first) == len(replayed) + 2
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert len({low.tobytes() for low, _ in first}) == len(first)


def test_fixed_crops_are_of_as_many_photographs_as_there_are(tmp_path):
    class Cuts:
        digest = ""

        def __len__(self):
            return 12

        def __getitem__(self, index):
            return (np.full((16, 16, 3), index, np.uint8),)

        def photograph(self, index):
            return "abc"[index // 4]

    for count, wanted in ((2, {"a", "c"}), (3, {"a", "b", "c"}), (5, {"a", "b", "c"})):
        pairs, names = inputs.fixed(Cuts(), 4, 8, count), inputs.photographs(Cuts(), count)
        assert set(names) == wanted
        assert [Cuts().photograph(int(low[0, 0, 0])) for (low,) in pairs] == names


def test_another_scale_is_refused(tiny):
    with pytest.raises(UserError, match=r"of scale ×4, the generator upscales ×2"):
        inputs.Replayed(str(tiny), "train", 2)


def test_rows_restored_elsewhere_cannot_be_degraded_anew():
    rows = {"scale": [4, 4], "source_id": ["a", "b"], "degradation": ['{"preset": "external"}'] * 2}
    with pytest.raises(UserError, match="made elsewhere"):
        inputs._distinct(rows, "DIR", "train", 4)
    rows["degradation"][1] = '{"preset": "light"}'
    assert inputs._distinct(rows, "DIR", "train", 4) == [1]


def test_a_crop_larger_than_the_images_is_refused(replayed):
    with pytest.raises(UserError, match=r"crops of 64 pixels do not fit into the low-resolution images of 32×32"):
        inputs.fixed(replayed, 4, 64, 2)


def test_images_of_several_sizes_make_no_batch():
    pairs = [(np.zeros((8, 8, 3), np.uint8), None), (np.zeros((8, 9, 3), np.uint8), None)]
    with pytest.raises(UserError, match="differ in size"):
        inputs.stacked(pairs)


def test_triplets_pair_reference_composite_and_sr_image_of_one_input(tiny):
    pairs, rows = inputs.PreferencePairs("triplets", str(tiny), "train", 4), fgr.load_samples(tiny, "train")
    local = sum(row["mask_kind"] not in ("full", "sham") for row in rows)
    assert len(pairs) == len(rows) + 2 * local
    low, winner, loser = pairs[0]
    assert low.shape == (32, 32, 3)
    assert np.array_equal(winner, rows[0]["reference"])
    assert np.array_equal(loser, rows[0]["sr"])
    with pytest.raises(UserError, match="not of scale ×2"):
        inputs.PreferencePairs("triplets", str(tiny), "train", 2)


def test_preferences_count_where_both_images_are_of_one_input(tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    with pytest.raises(UserError, match="no pairs of the kind preferences"):
        inputs.PreferencePairs("preferences", str(data), "train", 4)
    rows = list(fgr.load_samples(data, "train", ["id", "source_id", "degradation"]))
    first = rows[0]
    same = next(row for row in rows[1:] if (row["source_id"], row["degradation"]) == (first["source_id"], first["degradation"]))
    other = next(row for row in rows if row["source_id"] != first["source_id"])
    written = [(first, same, "right"), (first, other, "left"), (same, first, "tie")]
    table = [
        {"left_id": left["id"], "right_id": right["id"], "annotator": "a", "choice": choice, "comment": "", "lead_time_s": 1.0}
        for left, right, choice in written
    ]  # fmt: skip
    tables.write_small(data, "preferences", table)
    card.write(data)
    pairs = inputs.PreferencePairs("preferences", str(data), "train", 4)
    assert len(pairs) == 1
    samples = {row["id"]: row["composite"] for row in fgr.load_samples(data, "train", ["id", "composite"])}
    assert np.array_equal(pairs[0][1], samples[same["id"]])
    assert np.array_equal(pairs[0][2], samples[first["id"]])
