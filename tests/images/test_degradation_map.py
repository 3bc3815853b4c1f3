"""From differences to the degradation map, its severity and its score: combined, masked and pooled."""

import hashlib
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import data

from fgr.images import difference, masks, swap

maps = arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


def mixed(a, b, alpha, smooth):
    """The two images' differences by pixels and by gradients, combined."""
    return difference.combined(difference.pixel_difference(a, b), difference.gradient_difference(a, b), alpha, smooth)


def test_combined_worked_by_hand():
    pixel, feature = np.array([[0.2, 1.0]], np.float32), np.array([[0.6, 1.0]], np.float32)
    assert difference.combined(pixel, feature, 0.25, 0)[0] == pytest.approx([0.5, 1.0])
    assert np.array_equal(difference.combined(pixel, feature, 1, 0), pixel)
    assert np.array_equal(difference.combined(pixel, feature, 0, 0), feature)


def test_smoothing_is_a_gaussian_that_keeps_the_mean():
    spot = np.zeros((41, 41), np.float32)
    spot[20, 20] = 1
    made = difference.combined(spot, spot, 0.5, 3.0)
    assert made.sum() == pytest.approx(1, rel=1e-3)
    assert made[20, 20] == pytest.approx(1 / (2 * math.pi * 9), rel=0.02)
    assert made[20, 23] / made[20, 20] == pytest.approx(math.exp(-0.5), rel=0.01)
    assert not made[20, :10].any()


@settings(max_examples=30)
@given(pixel=maps, feature=maps, alpha=st.floats(0, 1), smooth=st.floats(0, 4))
def test_combined_is_bounded_and_grows_with_both(pixel, feature, alpha, smooth):
    made = difference.combined(pixel, feature, alpha, smooth)
    assert made.dtype == np.float32
    assert 0 <= made.min() <= made.max() <= 1
    worse = difference.combined(np.minimum(pixel + np.float32(0.1), 1), np.maximum(feature, np.float32(0.3)), alpha, smooth)
    assert (worse >= made - 1e-6).all()


def test_degradation_map_worked_by_hand():
    combined = np.array([[0.1, 0.1, 0.1, 0.9, 0.0]], np.float32)
    mask = np.array([[255, 51, 0, 255, 255]], np.uint8)
    assert difference.degradation_map(combined, mask, 4.0)[0] == pytest.approx([0.4, 0.08, 0, 1, 0])


@settings(max_examples=50)
@given(combined=maps, mask=arrays(np.uint8, (5, 7)), scale=st.floats(0.01, 1000))
def test_a_degradation_map_is_zero_outside_the_mask_and_bounded(combined, mask, scale):
    made = difference.degradation_map(combined, mask, scale)
    assert made.dtype == np.float32
    assert not made[mask == 0].any()
    assert 0 <= made.min() <= made.max() <= 1


def test_a_mask_of_another_type_or_size_is_refused():
    with pytest.raises(ValueError, match=r"mask must be uint8 \(2, 2\), got float32"):
        difference.degradation_map(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32), 1.0)
    with pytest.raises(ValueError, match=r"got uint8 \(2, 3\)"):
        difference.degradation_map(np.zeros((2, 2), np.float32), np.zeros((2, 3), np.uint8), 1.0)


def test_severity_worked_by_hand():
    mask = np.array([[255, 51, 0]], np.uint8)
    combined = np.array([[0.5, 1.0, 0.9]], np.float32)
    # (255·0.5 + 51·1) / (255 + 51)
    assert difference.severity(difference.degradation_map(combined, mask, 1.0), mask) == pytest.approx(178.5 / 306)
    assert difference.severity(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint8)) == 0


@settings(max_examples=40)
@given(level=st.floats(0, 1), mask=arrays(np.uint8, (5, 7)))
def test_severity_does_not_depend_on_how_soft_or_large_the_mask_is(level, mask):
    if mask.any():
        made = difference.degradation_map(np.full((5, 7), level, np.float32), mask, 1.0)
        assert difference.severity(made, mask) == pytest.approx(level, abs=1e-5)


def test_pooling_worked_by_hand():
    made = np.array([[0.0, 0.0, 0.3, 0.4], [0.0, 0.0, 0.0, 1.0]], np.float32)
    assert difference.pooled(made, "mean", 0.1, 2) == pytest.approx(1.7 / 8)
    assert difference.pooled(made, "top", 0.25, 2) == pytest.approx(0.7)
    assert difference.pooled(made, "top", 0.26, 2) == pytest.approx(1.7 / 3)  # a share is rounded up
    assert difference.pooled(made, "top", 1e-9, 2) == 1
    assert difference.pooled(made, "power", 0.1, 2) == pytest.approx(math.sqrt(1.25 / 8))
    assert difference.pooled(made, "power", 0.1, 1) == pytest.approx(1.7 / 8)
    with pytest.raises(ValueError, match="there is no pooling 'max'; known: mean, top, power"):
        difference.pooled(made, "max", 0.1, 2)


poolings = st.tuples(st.sampled_from(["mean", "top", "power"]), st.floats(0.001, 1), st.floats(1, 8))


@settings(max_examples=60)
@given(combined=maps, mask=arrays(np.uint8, (5, 7)), scale=st.floats(0.1, 10), factor=st.floats(1, 5), pooling=poolings)
def test_a_worse_defect_never_gets_a_better_score(combined, mask, scale, factor, pooling):
    mild = difference.degradation_map(combined, mask, scale)
    severe = difference.degradation_map(np.minimum(combined * np.float32(factor), 1), mask, scale)
    assert difference.pooled(severe, *pooling) >= difference.pooled(mild, *pooling) - 1e-9


@settings(max_examples=60)
@given(combined=maps, mask=arrays(np.uint8, (5, 7)), more=arrays(np.uint8, (5, 7)), scale=st.floats(0.1, 10), pooling=poolings)
def test_a_larger_region_never_gets_a_better_score(combined, mask, more, scale, pooling):
    small = difference.degradation_map(combined, mask, scale)
    large = difference.degradation_map(combined, np.maximum(mask, more), scale)
    assert 0 <= difference.pooled(small, *pooling) <= difference.pooled(large, *pooling) + 1e-9 <= 1 + 2e-9


@pytest.mark.parametrize("pooling", [("mean", 0.1, 2), ("top", 0.1, 2), ("power", 0.1, 2)])
def test_scores_of_real_artifacts_fall_with_area_and_severity(pooling):
    reference = data.astronaut()[:256, :256]
    worse = {
        side: cv2.resize(cv2.resize(reference, (side, side), interpolation=cv2.INTER_AREA), (256, 256)) for side in (32, 64, 128)
    }

    def pooled(side, mask):
        combined = mixed(reference, worse[side], 0.7, 4.0)
        return difference.pooled(difference.degradation_map(combined, mask, 5.0), *pooling)

    def disc(radius):
        return masks.feathered(cv2.circle(np.zeros((256, 256), np.uint8), (110, 130), radius, 255, -1), 3.0)

    by_area = [pooled(64, disc(radius)) for radius in (20, 40, 80, 120)]
    by_severity = [pooled(side, disc(60)) for side in (128, 64, 32)]
    assert by_area == sorted(by_area)
    assert by_severity == sorted(by_severity)
    assert by_area[0] < by_area[-1]
    assert by_severity[0] < by_severity[-1]


def test_a_seam_leaves_no_trace_in_the_map():
    """A hard paste of a restored image that is merely brighter: the map inside does not know where the paste ends."""
    reference = data.astronaut()[:128, :128] // 2
    brighter = reference + 40
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 32:96] = 255
    combined = mixed(reference, brighter, 0.5, 2.0)
    made = difference.degradation_map(combined, mask, 2.0)
    assert np.ptp(made[32:96, 32:96]) < 1e-3
    seam = difference.gradient_difference(reference, swap.composite(brighter, reference, mask))
    assert seam[32, 32:96].mean() > 0.2, "the composite itself does have a seam"


def test_a_known_pair_gives_known_bits():
    """Rows keep their maps across machines: this digest may change only with the definition."""
    a = (np.arange(24 * 20 * 3, dtype=np.int64).reshape(24, 20, 3) * 7919 % 251).astype(np.uint8)
    b = (np.arange(24 * 20 * 3, dtype=np.int64).reshape(24, 20, 3) * 6733 % 241).astype(np.uint8)
    made = mixed(a, b, 0.7, 4.0)
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == "4df90dc61eee69ba"
