"""1 − SSIM by place, by hand-worked numbers and laws; the tolerant one sees lattices and forgives a shift."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color, data
from skimage.metrics import structural_similarity

from fgr.images import structural
from fgr.images.swap import sham_source

DIFFERENCES = [structural.ssim_difference, structural.tolerant_ssim_difference]
FLAT = np.full((48, 48, 3), 128, np.uint8)


def photograph(side=96):
    return np.ascontiguousarray(data.astronaut()[:side, 150 : 150 + side])


def dots(image, period, amplitude=16):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    planted = image.astype(int)
    planted[(rows % period == 0) & (columns % period == 0)] += amplitude
    return planted.clip(0, 255).astype(np.uint8)


def checkerboard(image, amplitude):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return (image + amplitude * np.where((rows + columns) % 2, 1, -1)[..., None]).clip(0, 255).astype(np.uint8)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(9, 30), st.integers(9, 30))
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_equal_images_differ_by_nothing_and_order_does_not_matter(difference, seed, height, width):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2))
    assert not difference(a, a).any()
    map_ = difference(a, b)
    assert map_.shape == (height, width)
    assert map_.dtype == np.float32
    assert 0 <= map_.min() <= map_.max() <= 1
    assert np.array_equal(map_, difference(b, a))


def test_ssim_is_the_published_one():
    a = photograph()
    b = (a + np.random.default_rng(0).normal(0, 8, a.shape)).clip(0, 255).round().astype(np.uint8)
    gray = [np.rint(color.rgb2gray(image) * 255) for image in (a, b)]
    _, expected = structural_similarity(*gray, win_size=7, data_range=255, full=True, use_sample_covariance=False)
    # skimage's luminance has other weights than BT.601: the two agree on a grey image
    a, b = (np.repeat(image[..., None], 3, 2).astype(np.uint8) for image in gray)
    assert structural.ssim_difference(a, b)[4:-4, 4:-4] == pytest.approx(1 - expected[4:-4, 4:-4], abs=2e-4)


def test_one_dot_in_a_window_by_hand():
    # one of 49 pixels is 16 brighter: variance 16²·(1/49)·(48/49) = 5.118; c2 = 58.5225; luminance hardly moves
    planted = FLAT.copy()
    planted[24, 24] += 16
    assert structural.ssim_difference(FLAT, planted)[24, 24] == pytest.approx(5.118 / (5.118 + 58.5225), abs=1e-4)


@pytest.mark.parametrize("period", [3, 4, 5, 6, 8])
def test_lattices_count_in_full_when_a_shift_is_forgiven(period):
    plain = structural.ssim_difference(FLAT, dots(FLAT, period)).mean()
    tolerant = structural.tolerant_ssim_difference(FLAT, dots(FLAT, period)).mean()
    assert tolerant > 0.8 * plain > 0


@pytest.mark.parametrize("image", [photograph(), np.ascontiguousarray(np.repeat(data.grass()[:96, :96, None], 3, 2))])
def test_a_shift_by_a_pixel_counts_for_next_to_nothing(image):
    moved = sham_source(image, 1)
    assert structural.ssim_difference(image, moved).mean() > 0.1
    assert structural.tolerant_ssim_difference(image, moved)[9:-9, 9:-9].max() < 1e-4  # at the rim pixels are lost


def test_a_checkerboard_is_seen_that_gradients_are_blind_to():
    from fgr.images.difference import gradient_difference

    planted = checkerboard(photograph(), 6)
    assert gradient_difference(photograph(), planted).mean() < 0.001
    assert structural.tolerant_ssim_difference(photograph(), planted).mean() > 0.1


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_other_arrays_are_refused(difference):
    with pytest.raises(ValueError, match="expected uint8"):
        difference(FLAT.astype(np.float32), FLAT)
    with pytest.raises(ValueError, match="differ in size"):
        difference(FLAT, FLAT[:40])
