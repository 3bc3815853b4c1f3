"""Planted defects with judges whose opinions are known by hand."""

import math

import numpy as np
import pytest

from fgr.images.fixed_defects import FixedDefect
from fgr.reward.planted_probe import Pairs, Probe, judged

SIDE = 16


def flat(value):
    return np.full((SIDE, SIDE, 3), value, np.uint8)


def pairs(count=4, photographs=None):
    """References of 200, SR outputs of 100, in every pair."""
    names = photographs or [f"photo {i}" for i in range(count)]
    return Pairs([flat(200)] * count, [flat(100)] * count, names)


def brightness(images):
    """The brighter its red, the better: score = mean / 100, map = 1 − mean / 255, everywhere."""
    return [(image[..., 0].mean() / 100, np.full((SIDE, SIDE), 1 - image[..., 0].mean() / 255)) for image in images]


def grain(sign):
    """A judge that likes (1) or dislikes (−1) differences of neighbouring pixels, beside brightness."""

    def judge(images):
        for image in images:
            rough = np.abs(np.diff(image.astype(float), axis=1)).mean()
            yield (
                image.mean() / 100 + sign * rough,
                np.full((SIDE, SIDE), np.clip(0.5 - sign * rough / 100 - image.mean() / 1000, 0, 1)),
            )

    return judge


def shifted(red, green):
    return lambda image, rng: np.clip(image + np.array([red, green, 0]), 0, 255).astype(np.uint8)


DARKER = {
    "darker": FixedDefect("blur", shifted(-50, 0)),
    "lighter": FixedDefect("dots", shifted(25, -60), 4),
}  # both are darker in grey


def test_signs_and_sizes_in_gaps_by_hand():
    probe = Probe(brightness, pairs())
    assert probe.gap()["score"]["mean"] == pytest.approx(1)
    assert probe.gap()["map"]["mean"] == pytest.approx(100 / 255)
    found = probe.planted(defects=DARKER)
    darker, lighter = found["kinds"]["darker"], found["kinds"]["lighter"]
    assert darker["sr"]["score"]["change"] == pytest.approx(-0.5)
    assert darker["sr"]["score"]["gaps"] == pytest.approx(-0.5)  # 50 of 100 steps
    assert darker["sr"]["map"]["change"] == pytest.approx(50 / 255)
    assert darker["sr"]["map"]["gaps"] == pytest.approx(-0.5)  # worse: the map rose by half of the gap
    assert (darker["sr"]["score"]["right"], darker["reference"]["map"]["right"]) == (True, True)
    assert lighter["sr"]["score"]["gaps"] == pytest.approx(0.25)
    assert (lighter["sr"]["score"]["right"], lighter["sr"]["map"]["right"]) == (False, False)
    assert found["right"] == {"score": {"reference": 1, "sr": 1}, "map": {"reference": 1, "sr": 1}, "of": 2}


def test_a_judge_that_likes_grain_has_the_wrong_sign_and_one_that_does_not_the_right_one():
    likes, dislikes = (Probe(grain(sign), pairs()).planted() for sign in (1, -1))
    for name in ("noise 4", "noise 8", "dots 3, 16", "dots 4, 8", "checkerboard 4"):
        for on in ("reference", "sr"):
            assert likes["kinds"][name][on]["score"]["right"] is False
            assert likes["kinds"][name][on]["score"]["gaps"] > 0
            assert likes["kinds"][name][on]["map"]["right"] is False
            assert dislikes["kinds"][name][on]["score"]["right"] is True
            assert dislikes["kinds"][name][on]["score"]["gaps"] < 0
            assert dislikes["kinds"][name][on]["map"]["right"] is True
    random = Probe(grain(1), pairs()).random()
    assert random["1"]["score"]["gaps"] == pytest.approx(1, abs=0.1)  # neighbours differ by 0 or 2, each half of the time
    assert random["2"]["score"]["gaps"] == pytest.approx(2, abs=0.2)


def test_what_does_not_rise_above_the_noise_between_photographs_is_not_right():
    def unsure(images):
        for number, image in enumerate(images):
            yield image[0, 0, 0] / 100 + (-1) ** number * (image[0, 0, 0] % 100 == 50), np.zeros((SIDE, SIDE))

    found = Probe(unsure, pairs(8)).planted(defects=DARKER)["kinds"]["darker"]["sr"]
    assert found["score"]["change"] == pytest.approx(-0.5)  # −1.5 and +0.5 by turns
    assert found["score"]["low"] < -0.5 < found["score"]["high"]
    assert found["score"]["right"] is (found["score"]["high"] < 0)
    assert found["map"]["right"] is False  # a map that never changes
    assert math.isnan(found["map"]["gaps"])


def test_sr_outputs_that_the_defect_brings_nearer_to_their_references_need_not_be_worse():
    rng = np.random.default_rng(0)
    references = [rng.integers(0, 200, (SIDE, SIDE, 3)).astype(np.uint8) for _ in range(4)]
    outputs = [*(reference // 2 for reference in references[:2]), *(reference.copy() for reference in references[2:])]
    contrast = {
        "contrast": FixedDefect(
            "sharpening", lambda image, rng: np.clip(image.astype(int) * 2, 0, 255).astype(np.uint8), may_help=True
        )
    }
    probe = Probe(brightness, Pairs(references, outputs, list("abcd")))
    found = probe.planted(defects=contrast)["kinds"]["contrast"]
    assert found["sr"]["images"] == 2  # those that were references: doubling restores the others
    assert found["reference"]["images"] == 4
    none = Probe(brightness, Pairs(references[:2], outputs[:2], list("ab"))).planted(defects=contrast)["kinds"]["contrast"]["sr"]
    assert (none["images"], none["score"]["right"]) == (0, None)
    assert math.isnan(none["score"]["gaps"])


def test_one_photograph_is_no_evidence():
    found = Probe(brightness, pairs(4, ["one"] * 4)).planted(defects=DARKER)
    assert found["kinds"]["darker"]["sr"]["score"]["right"] is None
    assert found["kinds"]["darker"]["sr"]["score"]["gaps"] == pytest.approx(-0.5)
    assert found["right"]["score"] == {"reference": 0, "sr": 0}


def test_kinds_and_periods_that_were_never_planted_are_marked_and_the_cast_is_not_counted():
    found = Probe(brightness, pairs(2)).planted(["ringing"], [4])
    assert [name for name, kind in found["kinds"].items() if kind["held_out"]] == ["dots 4, 16", "dots 4, 8", "ringing"]
    assert found["right"]["of"] == 10
    cast = found["kinds"]["colour cast"]
    assert cast["apart"]
    assert cast["reference"]["score"]["change"] == pytest.approx(0.24)


def test_the_battery_is_the_same_every_time():
    assert Probe(grain(1), pairs(2)).planted() == Probe(grain(1), pairs(2)).planted()


def test_a_judge_that_gives_no_numbers_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        judged(lambda images: [(float("nan"), np.zeros((2, 2)))] * len(images), [flat(1)])
    with pytest.raises(ValueError, match="1 judgements of 2 images"):
        judged(lambda images: brightness(images[:1]), [flat(1)] * 2)


def test_the_way_to_the_reference_is_measured_in_its_small_steps():
    """A judge that sees nothing but the last step, and one that sees each."""

    def late(images):
        return [(float(image.mean() > 190), np.full((SIDE, SIDE), float(image.mean() < 190))) for image in images]

    even, blind = (Probe(judge, pairs()).approach() for judge in (brightness, late))
    assert list(even) == ["0.1", "0.25", "0.5"]
    for share, one in even.items():
        assert [one[name]["gaps"] for name in ("score", "map")] == pytest.approx([float(share)] * 2, abs=0.01)
        assert 0 < one["ssim"]["value"] < 1  # flat images: luminance alone
    assert all(one["score"]["gaps"] == one["map"]["gaps"] == 0 for one in blind.values())
