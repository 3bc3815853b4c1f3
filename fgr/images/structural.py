"""Structural difference of two images pixel by pixel: 1 − SSIM, also tolerating a one-pixel shift.

SSIM of Wang, Bovik, Sheikh and Simoncelli (Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP
2004) on luminance, over square windows: c1 = (0.01·255)², c2 = (0.03·255)². All maps are float32 (H, W) in [0, 1], 0 = identical;
exchanging the images changes nothing. Window sums are sums of whole numbers below 2**24, exact in float32, and the rest is
elementwise arithmetic: every bit is the same on any machine.
"""

import cv2
import numpy as np

WINDOW = 7  # side of the window of SSIM in pixels
AVERAGE = 9  # side of the square that a shift has to fit as a whole
C1, C2 = np.float32((0.01 * 255) ** 2 * WINDOW**4), np.float32((0.03 * 255) ** 2 * WINDOW**4)  # for sums in place of means
MIDDLE = np.float32(128)  # taken off before squaring, so that sums stay small
SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))


def ssim_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − SSIM of two uint8 (H, W, 3) images at each place, cut at 1: float32 (H, W). ValueError: another type, two sizes."""
    margin = WINDOW // 2
    return np.ascontiguousarray(_dissimilarity(_Sums(a, margin), _Sums(b, margin), (0, 0), margin))


def tolerant_ssim_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The least 1 − SSIM that a shift of one image by up to a pixel allows, at each place: float32 (H, W) in [0, 1].

    1 − SSIM is averaged over squares of 9×9 pixels first, so that a whole neighbourhood has to fit under one shift: texture that
    moved by a pixel counts for next to nothing, while a lattice over flat ground, which no shift explains, counts in full.
    """
    margin = WINDOW // 2 + AVERAGE // 2 + 2
    one, other = _Sums(a, margin), _Sums(b, margin)
    height, width = a.shape[:2]
    least = np.ones((height, width), np.float32)
    for shift in SHIFTS:
        wide = cv2.boxFilter(_dissimilarity(one, other, shift, WINDOW // 2 + 1), cv2.CV_32F, (AVERAGE, AVERAGE))
        rim = AVERAGE // 2 + 1
        for down, right in ((0, 0), shift):  # where it lies in one image, and where in the other
            np.minimum(least, wide[rim + down : rim + down + height, rim + right : rim + right + width], out=least)
    return least.clip(0, 1)


class _Sums:
    """Luminance of a uint8 image, mirrored by `margin` pixels on each side, with the sums of its windows."""

    def __init__(self, image: np.ndarray, margin: int) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
        gray = cv2.copyMakeBorder(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), margin, margin, margin, margin, cv2.BORDER_REFLECT)
        self.values = gray.astype(np.float32) - MIDDLE
        self.sums = _windows(self.values)
        self.variances = np.float32(WINDOW**2) * _windows(self.values * self.values) - self.sums * self.sums


def _dissimilarity(a: _Sums, b: _Sums, shift: tuple[int, int], rim: int) -> np.ndarray:
    """1 − SSIM of `a` and of `b` moved by `shift`, without the outermost `rim` pixels."""
    if a.values.shape != b.values.shape:
        raise ValueError(f"the two images differ in size: {a.values.shape} and {b.values.shape}")
    products = a.values * np.roll(b.values, shift, (0, 1))
    inside = (slice(rim, a.values.shape[0] - rim), slice(rim, a.values.shape[1] - rim))
    moved = tuple(slice(part.start - by, part.stop - by) for part, by in zip(inside, shift, strict=True))
    sum_a, sum_b = a.sums[inside], b.sums[moved]
    covariance = np.float32(WINDOW**2) * _windows(products)[inside] - sum_a * sum_b
    total_a, total_b = (part + MIDDLE * np.float32(WINDOW**2) for part in (sum_a, sum_b))
    # 1 − l·s without the difference of two numbers near one: l = 1 − (µa − µb)² / (…)
    luminance = np.square(total_a - total_b) / (np.square(total_a) + np.square(total_b) + C1)
    structure = (2 * covariance + C2) / (a.variances[inside] + b.variances[moved] + C2)
    return np.minimum(1 - (1 - luminance) * structure, np.float32(1))


def _windows(values: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.boxFilter(values, cv2.CV_32F, (WINDOW, WINDOW), normalize=False))
