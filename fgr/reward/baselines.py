"""Baselines that a reward model must beat: maps and scores that need no learning. Pure.

Images are uint8 (H, W, 3).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

PixelMap = Callable[[np.ndarray], np.ndarray]


def _grey(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255


def _smooth(map_: np.ndarray, sigma: float) -> np.ndarray:
    side = 2 * math.ceil(4 * sigma) + 1
    return np.asarray(cv2.GaussianBlur(map_, (side, side), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def gradient_energy(image: np.ndarray) -> np.ndarray:
    """Smoothed gradient magnitude, float32 (H, W): detail, or over-sharpening, as an artifact detector."""
    rows, columns = np.gradient(_grey(image))
    return np.clip(_smooth(np.hypot(rows, columns), 4.0) * 4, 0, 1)


def flatness(image: np.ndarray) -> np.ndarray:
    """1 − gradient energy: SR models smooth textures away, so the flat is suspect."""
    return 1 - gradient_energy(image)


def high_frequency(image: np.ndarray) -> np.ndarray:
    """Smoothed |x − lowpass(x)|, float32 (H, W)."""
    grey = _grey(image)
    return np.clip(_smooth(np.abs(grey - _smooth(grey, 1.5)), 4.0) * 8, 0, 1)


def centre(image: np.ndarray) -> np.ndarray:
    """A Gaussian bump in the middle, float32 (H, W): the centre prior."""
    height, width = image.shape[:2]
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    return np.exp(-(rows**2 + columns**2) / 0.5).astype(np.float32)


def self_similarity(image: np.ndarray) -> float:
    """A no-reference "PSNR": that of the image against its own low-pass, in dB, negated: sharper counts as better."""
    grey = _grey(image)
    return float(10 * np.log10(np.square(grey - _smooth(grey, 1.5)).mean() + 1e-10))


MAPS: dict[str, PixelMap] = {
    "gradient energy": gradient_energy,
    "flatness": flatness,
    "high frequency": high_frequency,
    "centre": centre,
}
SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "gradient energy": lambda image: float(gradient_energy(image).mean()),
    "smoothness": lambda image: -float(gradient_energy(image).mean()),
    "no-reference PSNR": self_similarity,
}


def scores(image: np.ndarray) -> dict[str, float]:
    """All of SCORES of an image, what they share computed once."""
    energy = float(gradient_energy(image).mean())
    return {"gradient energy": energy, "smoothness": -energy, "no-reference PSNR": self_similarity(image)}
