"""Patterns that planted defects add to an image: grain, straight lattices, tiles and weaves. Pure.

A function draws a pattern's parameters for images of `shape` (height, width) and gives what adds it: see `fgr.images.defects`.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fgr.records import LATTICE_PERIODS

Apply = Callable[
    [np.ndarray, float], np.ndarray
]  # float32 (H, W, 3) in [0, 255] and a strength in [0, 1] → the same shape, not clipped
PERIODS = LATTICE_PERIODS
CHECKERBOARDS = (2, 4, 6)  # of them, those of checkerboards
LARGEST_AMPLITUDE = 48.0  # of lattices and grain at strength 1, in steps of 8 bits


def grain(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """Gaussian noise, grey or coloured, fine or a little coarse."""
    channels = 1 if rng.random() < 0.5 else 3
    noise: np.ndarray = rng.standard_normal((*shape, channels)).astype(np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.5, 1.0))).reshape(*shape, channels)
        noise = noise / noise.std()
    return _added(noise, LARGEST_AMPLITUDE / 2)


def checkerboard(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = CHECKERBOARDS) -> Apply:
    rows, columns = _phases(rng, shape, period := int(rng.choice(periods)))
    half = period // 2
    return _added(_colored(rng, np.where((rows < half) == (columns < half), 1.0, -1.0)), LARGEST_AMPLITUDE / 2)


def lines(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    period = int(rng.choice(periods))
    rows, columns = _phases(rng, shape, period)
    along = rows if rng.random() < 0.5 else columns
    return _added(_colored(rng, np.cos(2 * np.pi * along / period)), LARGEST_AMPLITUDE)


def dots(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    """A lattice of single pixels, as networks draw that were tuned against a blind reward."""
    rows, columns = _phases(rng, shape, int(rng.choice(periods)))
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return _added(_colored(rng, np.where((rows == 0) & (columns == 0), sign, 0.0)), 1.5 * LARGEST_AMPLITUDE)


def tiles(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    """A random tile over and over, as a network's last layer draws that makes a square of pixels from each one of its input."""
    rows, columns = _phases(rng, shape, period := int(rng.choice(periods)))
    tile: np.ndarray = rng.standard_normal((period, period, 3 if rng.random() < 0.5 else 1))
    tile -= tile.mean(axis=(0, 1))
    return _by_contrast(rng, (tile / tile.std())[rows, columns], LARGEST_AMPLITUDE / 2)


def weave(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """A texture of its own: noise from one to three narrow parts of the spectrum, of any direction, soft or hard, grey or not."""
    down, right = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    width = math.exp(rng.uniform(math.log(0.006), math.log(0.04)))  # in cycles a pixel: from a fabric to a fur
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1))
    for _ in range(rng.integers(1, 4)):
        frequency, angle = math.exp(-rng.uniform(math.log(2.5), math.log(12))), rng.uniform(-np.pi / 2, np.pi / 2)
        away = np.hypot(down - frequency * math.sin(angle), right - frequency * math.cos(angle))
        spectrum += rng.uniform(0.3, 1) * np.exp(-((away / width) ** 2) / 2)
    noise = rng.standard_normal((3 if rng.random() < 0.5 else 1, *shape))
    pattern = np.fft.irfft2(np.fft.rfft2(noise) * spectrum, shape).transpose(1, 2, 0)
    pattern = np.tanh(math.exp(rng.uniform(-1, 1.5)) * pattern / pattern.std())
    return _by_contrast(rng, pattern / pattern.std(), LARGEST_AMPLITUDE / 2)


LATTICES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int], Sequence[int]], Apply], tuple[int, ...]]] = {
    "checkerboard": (checkerboard, CHECKERBOARDS),
    "lines": (lines, PERIODS),
    "dots": (dots, PERIODS),
    "tiles": (tiles, PERIODS),
}  # kind → how it is drawn, and its periods


def _added(pattern: np.ndarray, amplitude: float) -> Apply:
    """A pattern (H, W, 1 or 3) about [−1, 1], added with up to `amplitude` steps of 8 bits."""
    return lambda image, strength: image + np.float32(amplitude * strength) * pattern.astype(np.float32)


def _by_contrast(rng: np.random.Generator, pattern: np.ndarray, amplitude: float) -> Apply:
    """As `_added`; half of the time most where the image has most contrast, as what networks draw goes by what they see."""
    if rng.random() < 0.5:
        return _added(pattern, amplitude)

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        grey = image.mean(axis=2)
        contrast = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 3)), (0, 0), 3)
        share = np.clip(contrast / max(float(contrast.mean()), 1.0), 0, 2)[..., None]
        return image + np.float32(amplitude * strength) * share * pattern.astype(np.float32)

    return apply


def _phases(rng: np.random.Generator, shape: tuple[int, int], period: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column numbers modulo a period, with a random phase, as two arrays that broadcast to (H, W)."""
    first_row, first_column = rng.integers(0, period, 2)
    return (np.arange(shape[0])[:, None] + first_row) % period, (np.arange(shape[1])[None, :] + first_column) % period


def _colored(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    """A pattern that broadcasts to (H, W), in grey or, half of the time, in one colour: (H, W, 3)."""
    color = np.ones(3) if rng.random() < 0.5 else rng.uniform(-1, 1, 3)
    color = color / np.abs(color).max()
    return np.ascontiguousarray(pattern)[..., None] * color
