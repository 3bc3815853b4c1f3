import numpy as np
import pytest

from fgr.app import looking
from fgr.app.looking import Looked


def looked(score=0.5, heat=0.0, at=(0, 0), side=90):
    map_ = np.zeros((side, side), np.float32)
    map_[at[0] : at[0] + 20, at[1] : at[1] + 20] = heat
    return Looked(np.full((side, side, 3), 128, np.uint8), score, map_)


def test_blending_goes_from_the_image_to_the_overlay():
    from fgr.reward.score import overlay

    one = looked(heat=0.9)
    assert np.array_equal(looking.blended(one, 0), one.image)
    assert np.array_equal(looking.blended(one, 1), overlay(one.image, one.map))
    half = looking.blended(one, 0.5).astype(int)
    assert np.abs(half - (one.image.astype(int) + overlay(one.image, one.map)) / 2).max() <= 0.5


@pytest.mark.parametrize(
    ("at", "place"), [((0, 0), "top left"), ((35, 35), "centre"), ((70, 35), "bottom centre"), ((35, 70), "middle right")]
)
def test_the_worst_place_is_named(at, place):
    assert looking.worst_place(looked(heat=0.8, at=at).map) == place
    assert f"worst at the {place}" in looking.described(looked(heat=0.8, at=at))


def test_a_clean_image_has_no_worst_place():
    text = looking.described(looked(score=0.8123))
    assert text.startswith("**0.812** · worst 1 %: 0.00 – clean · mean 0.000")
    assert "worst at" not in text


def test_comparisons_by_hand():
    better, worse = looked(score=0.9), looked(score=0.4, heat=0.6)
    assert "Better by score: **the left** (+0.500)" in looking.compared(better, worse)
    assert "**the left** (+0.600)" in looking.compared(better, worse)
    assert "**the right** (-0.500)" in looking.compared(worse, better)
    same = looking.compared(better, looked(score=0.88))
    assert same.count("**neither**") == 2
    assert "disagree" in looking.compared(looked(score=0.9, heat=0.6), looked(score=0.4))
    assert "disagree" not in looking.compared(better, worse)
