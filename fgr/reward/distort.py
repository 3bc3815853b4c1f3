"""Global distortions of clean crops, for the student of full-reference scores. Pure."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

Distortion = Callable[[np.ndarray, float, np.random.Generator], Any]


def _blur(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 0.3 + 3 * level)


def _noise(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 1 + 30 * level, image.shape), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, level: float, rng: np.random.Generator) -> Any:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, round(95 - 85 * level)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _resize(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    factor = 1 + 5 * level
    small = cv2.resize(image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _sharpen(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.addWeighted(image, 1 + 4 * level, cv2.GaussianBlur(image, (0, 0), 1.5), -4 * level, 0)


DISTORTIONS: dict[str, Distortion] = {"blur": _blur, "noise": _noise, "jpeg": _jpeg, "resize": _resize, "sharpen": _sharpen}


def distorted(image: np.ndarray, rng: np.random.Generator) -> Any:
    """The uint8 (H, W, 3) image under one distortion of a random kind and level."""
    name = sorted(DISTORTIONS)[rng.integers(len(DISTORTIONS))]
    return DISTORTIONS[name](np.ascontiguousarray(image), float(rng.random()), rng)
