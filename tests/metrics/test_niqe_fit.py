"""NIQE's features against basicsr's, and its order on damaged photographs."""

import warnings

import cv2
import numpy as np
import pytest
import skimage.data

from fgr.images.basicsr_kernels import make_importable
from fgr.metrics import niqe_fit as naturalness


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    return [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]


@pytest.fixture(scope="module")
def fitted(photographs) -> naturalness.Naturalness:
    return naturalness.fit(photographs, 48)


def test_features_are_those_of_basicsr(photographs):
    make_importable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from basicsr.metrics.niqe import compute_feature

    luminance = cv2.cvtColor(photographs[0], cv2.COLOR_RGB2YCrCb)[:, :, 0].astype(np.float64)
    normalised, _ = naturalness.local_normalised(luminance)
    for top, left in ((0, 0), (200, 160), (300, 400)):
        block = normalised[top : top + 48, left : left + 48]
        assert naturalness.block_features(block) == pytest.approx(compute_feature(block), rel=1e-6)


def test_damage_makes_photographs_less_natural_the_more_the_less(photographs, fitted):
    face = photographs[0][:192, 128:320]
    noise = np.random.default_rng(0).normal(0, 1, face.shape)
    for damage in (
        lambda amount: cv2.GaussianBlur(face, (0, 0), amount),
        lambda amount: np.clip(face + 8 * amount * noise, 0, 255).astype(np.uint8),
        lambda amount: cv2.addWeighted(face, 1 + 2 * amount, cv2.GaussianBlur(face, (0, 0), 1.0), -2 * amount, 0),
    ):
        distances = [fitted(face), *(fitted(damage(amount)) for amount in (1.0, 2.0, 4.0))]
        assert distances == sorted(distances)
        assert distances[-1] > 1.5 * distances[0]


def test_an_image_below_a_patch_and_too_few_patches_are_refused(photographs, fitted):
    with pytest.raises(ValueError, match="no patch of 48"):
        fitted(photographs[0][:40, :100])
    with pytest.raises(ValueError, match="at least 40"):
        naturalness.fit([photographs[0][:96, :96]], 48)


def test_flat_images_have_a_finite_distance(fitted):
    assert np.isfinite(fitted(np.full((96, 96, 3), 128, np.uint8)))
