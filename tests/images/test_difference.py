"""Differences of two images, and of their features, pixel by pixel: by hand, by laws, and the same to the bit."""

import math
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from fgr.images import difference
from fgr.recipe.generate import Map

seeds = st.integers(0, 2**32)


def images(seed, shape=(40, 56), strength=60):
    """A reference and a damaged copy."""
    rng = np.random.default_rng(seed)
    reference = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), (0, 0), 1.5)
    return reference, np.clip(reference + rng.normal(0, strength, reference.shape), 0, 255).astype(np.uint8)


def both(a, b):
    return difference.pixel_difference(a, b), difference.gradient_difference(a, b)


def test_pixel_difference_worked_by_hand():
    a = np.array([[[0, 0, 0], [255, 255, 255], [10, 20, 30]]], np.uint8)
    b = np.array([[[255, 255, 255], [255, 255, 255], [40, 20, 0]]], np.uint8)
    expected = np.array([[1, 0, 60 / 765]], np.float32)
    assert np.array_equal(difference.pixel_difference(a, b), expected)
    assert difference.pixel_difference(a, b).dtype == np.float32


def test_gradient_difference_of_an_edge_worked_by_hand(monkeypatch):
    monkeypatch.setattr(difference, "GMS_SCALES", 1)
    flat = np.full((8, 8, 3), 100, np.uint8)
    edge = flat.copy()
    edge[:, 4:] = 160
    made = difference.gradient_difference(flat, edge)
    # beside the edge the Prewitt magnitude is 3·60/3 = 60, elsewhere 0: 60² / (60² + 170)
    assert made[:, 3:5] == pytest.approx(3600 / 3770, rel=1e-5)
    assert not made[:, :3].any()
    assert not made[:, 5:].any()


def test_gradient_difference_of_a_diagonal_ramp_worked_by_hand(monkeypatch):
    monkeypatch.setattr(difference, "GMS_SCALES", 1)
    rows, columns = np.mgrid[:12, :12]
    ramps = [np.dstack([(one * rows + other * columns).astype(np.uint8)] * 3) for one, other in ((3, 4), (6, 8))]
    made = difference.gradient_difference(*ramps)[1:-1, 1:-1]
    # [1 0 −1] doubles the slope: magnitudes 10 and 20, (20 − 10)² / (100 + 400 + 170)
    assert made == pytest.approx(100 / 670, rel=1e-5)


def test_gradient_difference_is_the_published_similarity_averaged_over_three_scales():
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in images(1, (32, 48)))
    kernel = np.array([[1, 0, -1]] * 3) / 3
    expected = np.zeros(a.shape)
    for scale in (1, 2, 4):
        strengths = []
        for gray in (a, b):
            small = gray.reshape(32 // scale, scale, 48 // scale, scale).mean(axis=(1, 3))
            padded = np.pad(small, 1, mode="symmetric")
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
            strengths.append(np.hypot((windows * kernel).sum((2, 3)), (windows * kernel.T).sum((2, 3))))
        one, other = strengths
        similarity = (2 * one * other + 170) / (one**2 + other**2 + 170)
        expected += cv2.resize(1 - similarity, (48, 32), interpolation=cv2.INTER_LINEAR) / 3
    assert difference.gradient_difference(*images(1, (32, 48))) == pytest.approx(expected, abs=2e-5)


@settings(max_examples=40)
@given(seed=seeds, height=st.integers(1, 30), width=st.integers(1, 30))
def test_differences_are_zero_on_identical_images_symmetric_and_bounded(seed, height, width):
    a, b = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    for there, back, none in zip(both(a, b), both(b, a), both(a, a), strict=True):
        assert there.shape == (height, width)
        assert there.dtype == np.float32
        assert np.array_equal(there, back)
        assert not none.any()
        assert there.min() >= 0
        assert there.max() <= 1


@settings(max_examples=15)
@given(seed=seeds, down=st.integers(0, 5), right=st.integers(0, 5))
def test_differences_move_with_the_images(seed, down, right):
    a, b = images(seed, (64, 64))
    moved = [np.roll(image, (4 * down, 4 * right), (0, 1)) for image in (a, b)]
    for still, after in zip(both(a, b), both(*moved), strict=True):
        expected = np.roll(still, (4 * down, 4 * right), (0, 1))
        inner = np.s_[4 * down + 16 : -16, 4 * right + 16 : -16]  # away from the border and from where it went
        assert np.array_equal(after[inner], expected[inner])


def test_a_local_defect_stays_local():
    reference = data.astronaut()[:128, :128]
    damaged = reference.copy()
    damaged[60:68, 60:68] = 255 - damaged[60:68, 60:68]
    for made in both(reference, damaged):
        assert made[60:68, 60:68].mean() > 0.1
        outside = made.copy()
        outside[60 - 12 : 68 + 12, 60 - 12 : 68 + 12] = 0
        assert not outside.any()


@settings(max_examples=25)
@given(seed=seeds, share=st.floats(0, 1))
def test_pixel_difference_grows_with_severity(seed, share):
    a, b = images(seed)
    milder = np.rint(a + share * (b.astype(float) - a)).astype(np.uint8)
    assert (difference.pixel_difference(a, milder) <= difference.pixel_difference(a, b)).all()


def test_gradient_difference_grows_with_blur():
    a = data.astronaut()[:256, :256]
    means = [difference.gradient_difference(a, cv2.GaussianBlur(a, (0, 0), sigma)).mean() for sigma in (0.5, 1, 2, 4)]
    assert means == sorted(means)
    assert means[0] > 0


@pytest.mark.parametrize("function", [difference.pixel_difference, difference.gradient_difference])
def test_images_of_another_type_or_size_are_refused(function):
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), got float32"):
        function(image, image.astype(np.float32))
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), got uint8 \(4, 5\)"):
        function(image[..., 0], image[..., 0])
    with pytest.raises(ValueError, match=r"the two images differ in size: \(4, 5, 3\) and \(3, 5, 3\)"):
        function(image, image[:3])


def test_cosine_difference_worked_by_hand():
    fa = np.array([[[1, 1, 3, 0, 0]], [[0, 0, 0, 2, 0]]], np.float32)
    fb = np.array([[[5, 1, -3, 1, 0]], [[0, 1, 0, 1, 0]]], np.float32)
    # equal direction 0; 45° 1 − √½; opposite 2, cut at 1; 45°; both zero 0
    expected = [0, 1 - math.sqrt(0.5), 1, 1 - math.sqrt(0.5), 0]
    assert difference.cosine_difference(fa, fb, 1, 5)[0] == pytest.approx(expected, abs=1e-5)
    assert difference.cosine_difference(fa[..., 4:], fb[..., :1], 1, 1).item() == 1  # a zero vector and another


def test_cosine_difference_is_placed_at_the_cells_centres():
    fa = np.ones((2, 4, 4), np.float32)
    fb = fa.copy()
    fb[:, 1, 2] = (1, -1)  # orthogonal: difference 1
    made = difference.cosine_difference(fa, fb, 64, 64)
    rows, columns = np.mgrid[:64, :64]
    assert (made * rows).sum() / made.sum() == pytest.approx(1.5 * 16 - 0.5, abs=1e-3)
    assert (made * columns).sum() / made.sum() == pytest.approx(2.5 * 16 - 0.5, abs=1e-3)
    assert made.max() > 0.93
    assert not made[:, :24].any()


@settings(max_examples=30)
@given(seed=seeds)
def test_cosine_difference_is_symmetric_bounded_blind_to_length_and_zero_on_identical_features(seed):
    rng = np.random.default_rng(seed)
    fa, fb = rng.normal(0, 1, (2, 6, 3, 4)).astype(np.float32)
    made = difference.cosine_difference(fa, fb, 20, 30)
    assert (made.shape, made.dtype) == ((20, 30), np.float32)
    assert np.array_equal(made, difference.cosine_difference(fb, fa, 20, 30))
    assert made.min() >= 0
    assert made.max() <= 1
    assert not difference.cosine_difference(fa, fa, 20, 30).any()
    assert difference.cosine_difference(fa, 7 * fa, 20, 30).max() < 1e-6


def test_features_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape \(C, h, w\), got \(2, 3, 3\) and \(2, 3, 4\)"):
        difference.cosine_difference(np.zeros((2, 3, 3)), np.zeros((2, 3, 4)), 9, 9)


def test_pixel_differences_by_name_are_those_of_recipes():
    names = get_args(Map.model_fields["pixel"].annotation)
    assert set(difference.PIXEL_DIFFERENCES) == set(names)


def test_neither_threads_nor_the_place_in_memory_change_a_bit():
    a, b = images(0, (250, 301))
    before = cv2.getNumThreads()
    try:
        made = set()
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            for offset in range(4):
                pair = [displaced(image, offset) for image in (a, b)]
                pixel, feature = both(*pair)
                made.add(b"".join(one.tobytes() for one in (pixel, feature, difference.combined(pixel, feature, 0.7, 4.0))))
        assert len(made) == 1
    finally:
        cv2.setNumThreads(before)


def displaced(image, offset):
    """The same image at another distance from a 64-byte boundary."""
    room = np.empty(image.size + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    place = room[start : start + image.size].reshape(image.shape)
    place[:] = image
    return place
