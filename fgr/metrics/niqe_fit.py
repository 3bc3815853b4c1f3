"""NIQE (Mittal et al. 2013), fitted on the user's own clean photographs. Pure.

18 features of asymmetric generalised Gaussians, at two scales, of patches of the locally normalised luminance. Ours: the half
scale is by area means; the sharper half of a photograph's patches is fitted on (published: those above 0.75 of the sharpest,
which leaves small sets nothing); and the distance uses the clean photographs' covariance alone (shrunk, Ledoit & Wolf 2004),
because the few patches of a training crop give none of their own. Values compare only with values under the same fit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.special import gamma

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SIGMA = 7 / 6  # of the 7×7 window of the local mean and deviation
FEATURES = 36
LEAST_PATCHES = FEATURES + 4


@dataclass(frozen=True, slots=True)
class Naturalness:
    """Mean (36,) and inverse covariance (36, 36) of clean patches of `patch` pixels."""

    mean: np.ndarray
    precision: np.ndarray
    patch: int
    patches: int

    def __call__(self, image: np.ndarray) -> float:
        """Distance of a uint8 (H, W, 3) image from clean photographs, ≥ 0, smaller = more natural. ValueError: below a patch."""
        found, _ = patch_features(image, self.patch)
        gap = found.mean(axis=0) - self.mean
        return float(np.sqrt(max(0.0, gap @ self.precision @ gap)))


def fit(photographs: Iterable[np.ndarray], patch: int) -> Naturalness:
    """Fit on clean uint8 (H, W, 3) photographs. ValueError if they have too few sharp patches."""
    from sklearn.covariance import LedoitWolf

    kept = []
    for photograph in photographs:
        features, sharpness = patch_features(photograph, patch)
        kept.append(features[sharpness >= np.median(sharpness)])
    everything = np.concatenate(kept) if kept else np.zeros((0, FEATURES))
    if len(everything) < LEAST_PATCHES:
        raise ValueError(f"{len(everything)} sharp patches of {patch} pixels, at least {LEAST_PATCHES} are needed")
    spread = everything.std(axis=0) + 1e-9  # shrink in units of each feature's own spread
    covariance = LedoitWolf().fit(everything / spread).covariance_ * np.outer(spread, spread)
    return Naturalness(everything.mean(axis=0), np.linalg.pinv(covariance), patch, len(everything))


def patch_features(image: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 36) and sharpness (n,) of the whole patches of a uint8 (H, W, 3) image. ValueError if there is none."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    if not rows or not columns:
        raise ValueError(f"an image of {image.shape[1]}×{image.shape[0]} pixels has no patch of {patch}")
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[: rows * patch, : columns * patch, 0].astype(np.float64)
    found, sharpness = [], np.zeros(0)
    for scale in (1, 2):
        if scale == 2:
            luminance = np.asarray(cv2.resize(luminance, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float64)
        normalised, deviation = local_normalised(luminance)
        found.append(np.stack([block_features(block) for block in _blocks(normalised, patch // scale)]))
        if scale == 1:
            sharpness = _blocks(deviation, patch).mean(axis=(1, 2))
    return np.concatenate(found, axis=1), sharpness


def local_normalised(luminance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(luminance − local mean) / (local deviation + 1), and the local deviation, both (H, W); luminance in 0 … 255."""
    mean = cv2.GaussianBlur(luminance, (7, 7), SIGMA, borderType=cv2.BORDER_REPLICATE)
    square = cv2.GaussianBlur(luminance * luminance, (7, 7), SIGMA, borderType=cv2.BORDER_REPLICATE)
    deviation = np.sqrt(np.abs(square - mean * mean))
    return (luminance - mean) / (deviation + 1), deviation


def block_features(block: np.ndarray) -> np.ndarray:
    """The 18 features of a normalised block (h, w): of itself, and of its products with its four neighbours."""
    shape, left, right = _asymmetric_gaussian(block)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = _asymmetric_gaussian(block * np.roll(block, shift, axis=(0, 1)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.array(features)


def _asymmetric_gaussian(values: np.ndarray) -> tuple[float, float, float]:
    """Shape and left and right scale of an asymmetric generalised Gaussian, by matching moments (Lasmar et al. 2009)."""
    shapes, ratios = _moments()
    negative, positive = values[values < 0], values[values > 0]
    left = np.sqrt(np.square(negative).mean()) if negative.size else 0.0
    right = np.sqrt(np.square(positive).mean()) if positive.size else 0.0
    if not left or not right:
        return float(shapes[-1]), float(left), float(right)  # flat
    skew = left / right
    flat = np.abs(values).mean() ** 2 / np.square(values).mean()
    wanted = flat * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    above = int(np.searchsorted(ratios, wanted).clip(1, len(shapes) - 1))
    shape = shapes[above - int(wanted - ratios[above - 1] < ratios[above] - wanted)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return float(shape), float(left * scale), float(right * scale)


@cache
def _moments() -> tuple[np.ndarray, np.ndarray]:
    shapes = np.arange(0.2, 10.001, 0.001)
    ratios = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    return shapes, ratios


def _blocks(plane: np.ndarray, side: int) -> np.ndarray:
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(-1, side, side)
