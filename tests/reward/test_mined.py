"""Mined rows: as they were written, worse only where the tuned output's map is the higher one."""

import numpy as np
import pytest
import torch

from fgr.errors import UserError
from fgr.images import codec
from fgr.recipe.reward import RewardRecipe
from fgr.recipe.training_defects import Mined, Planted
from fgr.reward import data as batches
from fgr.reward import mined, splits
from fgr.reward.planting import Planter


@pytest.fixture(scope="module")
def row():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (96, 96, 3), np.uint8) for name in mined.IMAGES}
    before, after = np.full((96, 96), 0.4, np.float32), np.full((96, 96), 0.4, np.float32)
    after[:, :48], after[:, 48:] = 0.7, 0.1
    return mined.encoded(images, {"start_map": before, "tuned_map": after}), images


def test_a_row_is_a_planted_image_on_the_start(row):
    sample = mined.decoded(row[0])
    for name, own in (("reference", "reference"), ("sr", "start"), ("composite", "tuned")):
        assert np.array_equal(sample[name], row[1][own])
    assert sample["planted_map"][:, :48].min() / 65535 == pytest.approx(0.3, abs=2 * codec.MAP_ERROR)
    assert not sample["planted_map"][:, 48:].any()  # there it became better
    assert sample["target"][0, 95] / 65535 == pytest.approx(0.1, abs=codec.MAP_ERROR)
    assert (sample["planted"], sample["planted_on_sr"], sample["steady"], sample["human_weight"]) == (1, 1, 1, 0)


def test_a_row_turned_round_says_where_tuning_helped(row):
    sample = mined.decoded(row[0], turned=True)
    for name, own in (("reference", "reference"), ("sr", "tuned"), ("composite", "start")):
        assert np.array_equal(sample[name], row[1][own])
    assert not sample["planted_map"][:, :48].any()
    assert sample["planted_map"][:, 48:].min() / 65535 == pytest.approx(0.3, abs=2 * codec.MAP_ERROR)
    assert sample["sr_target"][0, 95] < sample["target"][0, 95]


def test_files_come_back_whole_and_in_order(row, tmp_path):
    other = row[0] | {"start": row[0]["tuned"]}
    for name, rows in (("a", [row[0]]), ("b", [other, row[0]])):
        mined.write(tmp_path / name, iter(rows))
    found = mined.read([tmp_path / "a", tmp_path / "b"])
    assert found == [row[0], other, row[0]]
    assert mined.digest(found) != mined.digest(found[:2])
    (tmp_path / "a").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cannot be read(.|\n)*the same command makes it anew"):
        mined.read([tmp_path / "a"])


def test_a_share_of_the_draws_is_mined_and_fits_the_others(row, data):
    rows = splits.open_split(str(data), "train")
    planter = Planter(Planted(share=0.5), 1.0, True)
    samples = batches.Samples(rows, 48, True, planter=planter, mined_rows=[row[0]], mined_share=0.3)
    loaded = list(batches.loader(samples, batches.Draws(len(rows), 6, 0, 10), 0))
    assert all(batch["planted_map"].shape == (6, 1, 48, 48) for batch in loaded)
    start = {tuple(pixel) for name in ("start", "tuned") for pixel in row[1][name].reshape(-1, 3)}  # either way round
    found = sum(
        tuple(image[:, 0, 0].tolist()) in start and len(image.unique()) > 250 for batch in loaded for image in batch["sr"]
    )
    assert 8 < found < 30
    again = batches.Samples(rows, 48, True, planter=planter, mined_rows=[row[0]], mined_share=0.3)[(3, 11)]
    assert all(np.array_equal(value, again[name]) for name, value in samples[(3, 11)].items())
    assert torch.is_tensor(loaded[0]["steady"])


def test_rounds_need_planted_defects_and_a_dataset_on_the_disk():
    with pytest.raises(ValueError, match=r"planted\.share above 0"):
        RewardRecipe(name="x", mined=Mined(rounds=1))
    with pytest.raises(ValueError, match=r"data\.streaming=false"):
        RewardRecipe(name="x", mined=Mined(rounds=1), planted=Planted(share=0.1), data={"streaming": True})
