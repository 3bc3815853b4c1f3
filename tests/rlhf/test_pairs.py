"""Pairs that people or the dataset prefer: which there are, and what they hold."""

import shutil

import numpy as np
import pytest

import fgr
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.rlhf.pairs import Ranked


def test_triplets_pair_reference_composite_and_sr_image_of_one_input(tiny):
    pairs, rows = Ranked("triplets", str(tiny), "train", 4), fgr.load_samples(tiny, "train")
    local = sum(row["mask_kind"] not in ("full", "sham") for row in rows)
    assert len(pairs) == len(rows) + 2 * local
    low, winner, loser = pairs[0]
    assert low.shape == (32, 32, 3)
    assert np.array_equal(winner, rows[0]["reference"])
    assert np.array_equal(loser, rows[0]["sr"])
    with pytest.raises(UserError, match="not of scale ×2"):
        Ranked("triplets", str(tiny), "train", 2)


def test_preferences_count_where_both_images_are_of_one_input(tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    with pytest.raises(UserError, match="no pairs of the kind preferences"):
        Ranked("preferences", str(data), "train", 4)
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
    pairs = Ranked("preferences", str(data), "train", 4)
    assert len(pairs) == 1
    samples = {row["id"]: row["composite"] for row in fgr.load_samples(data, "train", ["id", "composite"])}
    assert np.array_equal(pairs[0][1], samples[same["id"]])
    assert np.array_equal(pairs[0][2], samples[first["id"]])
