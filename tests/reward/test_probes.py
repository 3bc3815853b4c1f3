"""Probes of a reward model: which rows and parts, and what they say of models that are known by hand."""

import numpy as np
import pytest
import torch

from fgr.errors import UserError
from fgr.reward import probes, splits
from fgr.reward.ascent import ascend, ascent
from fgr.reward.invariances import invariances
from fgr.reward.planted_probe import Pairs, Probe
from fgr.reward.score import score_many

SIDE = 32


class Pixels(torch.nn.Module):
    """Scores the mean of red; its map is 1 − green, at each pixel: no surroundings matter."""

    settings, multiple = {}, 16

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return image[:, 0].mean((1, 2)), 1 - image[:, 1:2]

    def pooled(self, image, valid):
        return (image[:, :1] * valid).sum((2, 3)), valid.sum((2, 3)), 1 - image[:, 1:2]

    def score_of(self, sums, weight):
        return (sums / weight).squeeze(1)


def textured(seed, low, high):
    return np.random.default_rng(seed).integers(low, high, (SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture
def probe():
    pairs = Pairs([textured(i, 150, 200) for i in range(3)], [textured(i, 50, 100) for i in range(3)], list("abc"))
    return Probe(lambda images: score_many(Pixels(), images), pairs)


def test_ascent_takes_every_step_that_the_gradient_allows_and_the_control_none(probe):
    model = Pixels()
    image = probe.pairs.outputs[0]
    ascended = ascend(model, image, 2, probe).astype(int) - image
    assert np.abs(ascended).max() == 2
    assert (ascended[..., 0] == 2).all()  # the score's
    assert (ascended[..., 2] == 0).all()  # neither's
    worst = image[..., 1] <= np.quantile(image[..., 1], 0.03)
    assert (ascended[..., 1][worst] > 0).all()  # the map's
    found = ascent(model, probe)
    assert found["2"]["ascent"]["score"]["gaps"] == pytest.approx(2 / 100, rel=0.02)
    assert found["1"]["ascent"]["score"]["gaps"] == pytest.approx(1 / 100, rel=0.02)
    assert found["1"]["ascent"]["map"]["gaps"] > 0
    assert abs(found["2"]["random"]["score"]["gaps"]) < 0.003


def test_a_model_of_single_pixels_is_invariant_and_one_of_places_is_not(probe):
    def judge(images):
        return list(score_many(Pixels(), images))

    def of_places(images):  # worse to the left, whatever is there
        ramp = np.tile(np.linspace(1, 0, SIDE, dtype=np.float32), (SIDE, 1))
        return [(score, ramp[: map_.shape[0], : map_.shape[1]]) for score, map_ in judge(images)]

    gap = probe.gaps()["score"]
    found = invariances(judge, judge, probe.pairs.outputs, probe.pairs.photographs, gap)
    assert set(found) == {"shift", "flip", "crop", "tile", "batch"}
    for name, one in found.items():
        assert one["worst"] < 1e-6
        assert one["score"]["gaps"] < (0.1 if name == "shift" else 1e-5)  # a shift brings other pixels in
    turned = invariances(of_places, judge, probe.pairs.outputs, probe.pairs.photographs, gap)
    assert turned["flip"]["map"]["mean"] == pytest.approx(np.abs(np.linspace(-1, 1, SIDE)).mean(), abs=1e-5)
    assert turned["shift"]["map"]["mean"] == pytest.approx(1 / (SIDE - 1), abs=1e-5)


def test_references_are_each_taken_once_and_shams_are_not(data):
    rows = splits.open_split(str(data), "train")
    chosen = probes.chosen_rows(rows, 16)
    assert len(chosen) == len({row["source_id"] for row in chosen}) == 9  # of twelve rows every fourth is a sham
    assert all(row["mask_kind"] != "sham" for row in chosen)
    assert len(probes.chosen_rows(rows, 4)) == 4
    shams = rows.select([i for i, kind in enumerate(rows["mask_kind"]) if kind == "sham"])
    with pytest.raises(UserError, match="no row with an SR output"):
        probes.chosen_rows(shams, 4)


def test_several_sr_models_of_a_reference_take_turns():
    from datasets import Dataset

    table = {"photo_id": list("ppppqq"), "source_id": list("aabbcc"), "mask_kind": ["full"] * 6, "model": ["x", "y"] * 3}
    found = probes.chosen_rows(Dataset.from_dict(table), 16)
    assert [(row["source_id"], row["model"]) for row in found] == [("a", "x"), ("c", "y"), ("b", "x")]  # photographs first
    assert {row["photo_id"] for row in probes.chosen_rows(Dataset.from_dict(table), 2)} == {"p", "q"}


def test_large_images_are_judged_by_their_middle():
    image = np.arange(600 * 40).reshape(600, 40)
    assert (probes.middle(image) == image[44:556]).all()


def test_parts_are_checked():
    assert probes.expect_parts(("labels",), ["a"]) == ["labels", "systems"]
    with pytest.raises(UserError, match="no part 'plantd' – did you mean 'planted'"):
        probes.expect_parts(["plantd"], [])
    with pytest.raises(UserError, match="needs networks"):
        probes.expect_parts(["systems"], [])
    with pytest.raises(UserError, match="No part"):
        probes.expect_parts([], [])


def test_what_was_planted_in_training_is_read_from_the_recipe():
    planted = {"share": 0.4, "held_out": ["ringing"], "held_out_periods": [4]}
    assert probes.Planting.of_recipe({"planted": planted}) == probes.Planting(0.4, ["ringing"], [4])
    assert probes.Planting.of_recipe({"planted": planted | {"share": 0}}) == probes.Planting(0.0)  # nothing was: nothing held out
    assert probes.Planting.of_recipe({}) == probes.Planting.of_recipe(None) == probes.Planting()
