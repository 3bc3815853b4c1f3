"""Where and how much a restored image differs from its reference: the degradation map's ingredients.

    M_gt = clip(scale · G_smooth[α·pixel + (1 − α)·feature], 0, 1) · m / 255

`pixel` is one of `PIXEL_DIFFERENCES` by name. All ingredients are float32 (H, W) in [0, 1], 0 = identical. They are taken of
the whole pair and masked last, so the seam of a composite, which only exists after pasting, can leave no trace in a map.
Identical images give exactly 0 everywhere, and exchanging the two images changes nothing.

Every bit of a map is the same on any machine and with any number of threads: filters run on integers, or on numbers whose sums
are exact in float32; resizing and the Gaussian use OpenCV's bit-exact 16-bit versions; the rest is elementwise arithmetic.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from fgr.images.structural import ssim_difference, tolerant_ssim_difference

GMS_STABILITY = 170.0  # the constant of Xue et al. 2014 for Prewitt gradients of 8-bit images
GMS_SCALES = 3  # full, half and quarter resolution
MASK_WEIGHTS = np.arange(256, dtype=np.float32) / 255
SLOPE, SUM = np.array([1, 0, -1], np.float32), np.ones(3, np.float32)  # three times the Prewitt filter: exact
FIXED = 65535  # 16-bit numbers stand for value · FIXED


def pixel_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over the channels of |a − b| / 255 for two uint8 (H, W, 3) images: float32 (H, W)."""
    _check_images(a, b)
    total = np.asarray(cv2.transform(cv2.absdiff(a, b).astype(np.float32), np.ones((1, 3), np.float32)), np.float32)
    return np.divide(total, np.float32(3 * 255), out=total)


PIXEL_DIFFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "l1": pixel_difference,  # the paper's
    "ssim": ssim_difference,
    "ssim-tolerant": tolerant_ssim_difference,
}


def gradient_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much the strength of edges and texture differs in two uint8 (H, W, 3) images: float32 (H, W) in [0, 1].

    1 − GMS, the gradient magnitude similarity of Xue, Zhang, Mou and Bovik (Gradient Magnitude Similarity Deviation, IEEE
    TIP 2014): Prewitt filters with weights of 1/3, c = 170 for 8-bit luminance. The paper takes it at half resolution and
    pools it; here it is averaged over full, half and quarter resolution, each upsampled to full.
    With gradient magnitudes g: 1 − (2·g_a·g_b + c) / (g_a² + g_b² + c) = (g_a − g_b)² / (g_a² + g_b² + c).
    """
    _check_images(a, b)
    height, width = a.shape[:2]
    whole = 2 ** (GMS_SCALES - 1)
    rows, columns = height + -height % whole, width + -width % whole
    gray_a, gray_b = (_padded(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), rows, columns).astype(np.float32) for image in (a, b))
    total = _gradient_dissimilarity(gray_a, gray_b)
    for _ in range(GMS_SCALES - 1):
        gray_a, gray_b = _halved(gray_a), _halved(gray_b)
        total += _upsampled(_gradient_dissimilarity(gray_a, gray_b), rows, columns)
    total /= np.float32(GMS_SCALES)
    return np.ascontiguousarray(total[:height, :width])


def cosine_difference(fa: np.ndarray, fb: np.ndarray, height: int, width: int) -> np.ndarray:
    """1 − cos of two dense feature maps, float (C, h, w), cut at 1 and upsampled: float32 (height, width) in [0, 1].

    Negative cosines, which deep features hardly ever have, count as no likeness at all, so that the range is used fully.
    A zero vector is like another zero vector and unlike all others. Upsampling is bilinear with the cells' centres where
    they belong: cell i covers the pixels i·height/h … (i + 1)·height/h. ValueError if the two shapes differ.
    """
    if fa.shape != fb.shape or fa.ndim != 3:
        raise ValueError(f"features must be two arrays of one shape (C, h, w), got {fa.shape} and {fb.shape}")
    (unit_a, zero_a), (unit_b, zero_b) = _normalised(fa), _normalised(fb)
    distance = np.square(unit_a - unit_b).sum(axis=0) / 2  # = 1 − cos, and exactly 0 for equal vectors
    distance[zero_a != zero_b] = 1
    return _upsampled(np.minimum(distance, 1), height, width)


def dense_difference(features: tuple[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]], cell: int) -> np.ndarray:
    """The mean over levels of the cosine difference of two images' dense features: float32 (H, W).

    `features` are the images' height and width, and both images' features (C, h, w) of each level. They cover the images and a
    margin at the right and the bottom, to whole cells of `cell` pixels, which is cut off.
    """
    (height, width), levels = features
    whole = (height + -height % cell, width + -width % cell)
    maps = [cosine_difference(one, other, *whole)[:height, :width] for one, other in levels]
    return np.stack(maps).mean(axis=0, dtype=np.float32)


def combined(pixel: np.ndarray, feature: np.ndarray, alpha: float, smooth: float) -> np.ndarray:
    """α·pixel + (1 − α)·feature, then a Gaussian of sigma `smooth` pixels (0 = none): float32 (H, W) in [0, 1]."""
    mixed = pixel * np.float32(alpha)
    mixed += feature * np.float32(1 - alpha)
    np.clip(mixed, 0, 1, out=mixed)
    if smooth > 0:
        side = 2 * math.ceil(3 * smooth) + 1
        mixed = _from_fixed(cv2.GaussianBlur(_to_fixed(mixed), (side, side), smooth, borderType=cv2.BORDER_REFLECT))
    return mixed


def whole_map(combined: np.ndarray, scale: float) -> np.ndarray:
    """clip(scale · combined, 0, 1): the map of the whole restored image, float32 (H, W).

    `scale` is one for a whole dataset, so that severities compare across images.
    """
    worst = combined * np.float32(scale)
    return np.minimum(worst, np.float32(1), out=worst)


def degradation_map(combined: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    """M_gt = `whole_map` · m / 255: float32 (H, W), exactly 0 where `mask`, uint8 (H, W), is 0.

    ValueError if the shapes differ.
    """
    if mask.dtype != np.uint8 or mask.shape != combined.shape:
        raise ValueError(f"mask must be uint8 {combined.shape}, got {mask.dtype} {mask.shape}")
    worst = whole_map(combined, scale)
    worst *= MASK_WEIGHTS[mask]
    return worst


def severity(map: np.ndarray, mask: np.ndarray) -> float:
    """How bad it is where something was pasted, in [0, 1]: the mean of clip(scale · combined) weighted by the mask m.

    The map holds the factor m already, so this is sum(map) / sum(m / 255); 0 for an empty mask.
    """
    weight = float(mask.sum(dtype=np.int64)) / 255
    return min(float(map.sum(dtype=np.float64)) / weight, 1.0) if weight else 0.0


def pooled(map: np.ndarray, kind: str, q: float, p: float) -> float:
    """One number in [0, 1] for a map, float (H, W) in [0, 1]; the global score is 1 − pooled.

    mean: the mean. top: the mean of the share `q` of the pixels that are worst (at least one). power: mean(map^p)^(1/p).
    All of them grow, or stay, when any pixel grows: a worse or a larger region never gets a better score.
    """
    if kind == "mean":
        return float(map.mean(dtype=np.float64))
    if kind == "top":
        number = max(1, math.ceil(q * map.size))
        return float(np.partition(map.ravel(), map.size - number)[map.size - number :].mean(dtype=np.float64))
    if kind == "power":
        return float((map.astype(np.float64) ** p).mean() ** (1 / p))
    raise ValueError(f"there is no pooling '{kind}'; known: mean, top, power")


def _gradient_dissimilarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 − GMS of two float32 (H, W) images; in place where it can be, for fresh memory costs more than the arithmetic."""
    energy_a, energy_b = _gradient_energy(a), _gradient_energy(b)
    gap = np.sqrt(energy_a)
    gap -= np.sqrt(energy_b)
    gap *= gap
    energy_a += energy_b
    energy_a += np.float32(9 * GMS_STABILITY)
    gap /= energy_a
    return gap


def _gradient_energy(gray: np.ndarray) -> np.ndarray:
    """Nine times the squared magnitude of the Prewitt gradient of a float32 (H, W) image."""
    across = np.asarray(cv2.sepFilter2D(gray, cv2.CV_32F, SLOPE, SUM, borderType=cv2.BORDER_REFLECT), np.float32)
    down = np.asarray(cv2.sepFilter2D(gray, cv2.CV_32F, SUM, SLOPE, borderType=cv2.BORDER_REFLECT), np.float32)
    across *= across
    down *= down
    across += down
    return across


def _halved(gray: np.ndarray) -> np.ndarray:
    return cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _padded(gray: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width = gray.shape
    return cv2.copyMakeBorder(gray, 0, rows - height, 0, columns - width, cv2.BORDER_REFLECT)


def _upsampled(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, cells' centres aligned: float (h, w) in [0, 1] to float32 (height, width)."""
    return _from_fixed(cv2.resize(_to_fixed(values), (width, height), interpolation=cv2.INTER_LINEAR_EXACT))


def _to_fixed(values: np.ndarray) -> np.ndarray:
    return np.rint(values * np.float32(FIXED)).astype(np.uint16)


def _from_fixed(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / np.float32(FIXED)


def _normalised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along the first axis, and where there was none to normalise."""
    features = features.astype(np.float32, copy=False)
    length = np.sqrt(np.square(features).sum(axis=0))
    zero = length == 0
    return features / np.where(zero, np.float32(1), length), zero


def _check_images(a: np.ndarray, b: np.ndarray) -> None:
    for image in (a, b):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if a.shape != b.shape:
        raise ValueError(f"the two images differ in size: {a.shape} and {b.shape}")
