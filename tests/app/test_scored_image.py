import cv2
import numpy as np
import pytest

from fgr.app import scored_image
from fgr.app.scored_image import ScoredImage


def scored(score=0.5, severity=0.0, at=(0, 0), side=90):
    map_ = np.zeros((side, side), np.float32)
    map_[at[0] : at[0] + 20, at[1] : at[1] + 20] = severity
    return ScoredImage(np.full((side, side, 3), 128, np.uint8), score, map_)


def test_blending_goes_from_the_image_to_the_overlay():
    from fgr.reward.score import overlay

    one = scored(severity=0.9)
    assert np.array_equal(scored_image.blended(one, 0), one.image)
    assert np.array_equal(scored_image.blended(one, 1), overlay(one.image, one.map))
    half = scored_image.blended(one, 0.5).astype(int)
    assert np.abs(half - (one.image.astype(int) + overlay(one.image, one.map)) / 2).max() <= 0.5


@pytest.mark.parametrize(
    ("at", "place"), [((0, 0), "top left"), ((35, 35), "centre"), ((70, 35), "bottom centre"), ((35, 70), "middle right")]
)
def test_the_worst_place_is_named(at, place):
    assert scored_image.worst_place(scored(severity=0.8, at=at).map) == place
    assert f"worst at the {place}" in scored_image.described(scored(severity=0.8, at=at))


def test_a_clean_image_has_no_worst_place():
    text = scored_image.described(scored(score=0.8123))
    assert text.startswith("**0.812** · worst 1 %: 0.00 – clean · mean 0.000")
    assert "worst at" not in text


def test_comparisons_by_hand():
    better, worse = scored(score=0.9), scored(score=0.4, severity=0.6)
    assert "Better by score: **the left** (+0.500)" in scored_image.compared(better, worse)
    assert "**the left** (+0.600)" in scored_image.compared(better, worse)
    assert "**the right** (-0.500)" in scored_image.compared(worse, better)
    same = scored_image.compared(better, scored(score=0.88))
    assert same.count("**neither**") == 2
    assert "disagree" in scored_image.compared(scored(score=0.9, severity=0.6), scored(score=0.4))
    assert "disagree" not in scored_image.compared(better, worse)


def test_unlike_pictures_are_told():
    rng = np.random.default_rng(0)
    motif, other = (cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC) for _ in "ab")
    noisy = np.clip(motif + rng.normal(0, 20, motif.shape), 0, 255).astype(np.uint8)
    grey = np.full_like(motif, 128)
    for like in ((motif, noisy), (motif, cv2.GaussianBlur(motif, (0, 0), 3)), (motif, motif // 2 + 60), (grey, grey + 2)):
        assert scored_image.unlike(*like) is None
    assert "do not show the same" in scored_image.unlike(motif, other)
    assert "do not show the same" in scored_image.unlike(grey, grey // 2)
    assert "one has 96×96 pixels, the other 96×48" in scored_image.unlike(motif, motif[:48])
