"""Fixed planted defects: each of one kind, period and strength, the same in every test.

`defects.draw` draws a defect's parameters at random, as training wants it; here they are fixed, so that figures compare between
reward models and versions. Only phase and noise differ from image to image. Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from fgr.images.defects import at_strength, ringing, sharpening, smoothing

Make = Callable[
    [np.random.Generator, tuple[int, int]], np.ndarray
]  # → a pattern that broadcasts to (H, W, 3), in steps of 8 bits
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class FixedDefect:
    """A defect of a `kind` of `defects.KINDS`, of a lattice its `period` in pixels.

    `apart`: shown but not counted. `may_help`: SR outputs, which are too smooth, may be the better for it; what is nearer to the
    reference then is no defect. (Blur often is nearer, and is one nevertheless: distances forgive it.)
    """

    kind: str
    change: Change  # uint8 (H, W, 3) and randomness → the image with the defect, uint8 (H, W, 3)
    period: int = 0
    apart: bool = False
    may_help: bool = False


def _added(make: Make) -> Change:
    def change(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.clip(np.rint(image + make(rng, image.shape[:2])), 0, 255).astype(np.uint8)

    return change


def _noise(sigma: float) -> Change:
    return _added(lambda rng, shape: rng.normal(0, sigma, (*shape, 3)))


def _dots(period: int, amplitude: float) -> Change:
    """One brighter pixel in every square of `period` pixels."""

    def make(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        pattern = np.zeros((*shape, 1))
        top, left = rng.integers(0, period, 2)
        pattern[top::period, left::period] = amplitude
        return pattern

    return _added(make)


def _checkerboard(amplitude: float) -> Change:
    """Neighbouring pixels lighter and darker by turns."""

    def make(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        odd = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2 == rng.integers(2)
        return np.where(odd, amplitude, -amplitude)[..., None]

    return _added(make)


FIXED: dict[str, FixedDefect] = {
    "noise 4": FixedDefect("grain", _noise(4)),
    "noise 8": FixedDefect("grain", _noise(8)),
    "dots 3, 16": FixedDefect("dots", _dots(3, 16), 3),
    "dots 4, 16": FixedDefect("dots", _dots(4, 16), 4),
    "dots 4, 8": FixedDefect("dots", _dots(4, 8), 4),
    "checkerboard 4": FixedDefect("checkerboard", _checkerboard(4), 2),
    "ringing": FixedDefect("ringing", lambda image, rng: at_strength(image, ringing(0.2), 0.5)),
    "sharpening": FixedDefect(
        "sharpening", lambda image, rng: at_strength(image, sharpening(1.0), 1 / 3), may_help=True
    ),  # gain of 2
    "smoothing": FixedDefect("smoothing", lambda image, rng: at_strength(image, smoothing(3.0), 0.5)),  # levels of up to 90
    "blur 1.5": FixedDefect("blur", lambda image, rng: cv2.GaussianBlur(image, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)),
    "colour cast": FixedDefect("colour-cast", _added(lambda rng, shape: np.array([24.0, -10.0, -7.0])), apart=True),
}


def random_steps(image: np.ndarray, step: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) with every value changed by + or − `step`, at random: of what gradient ascent may do, the control."""
    signs = rng.integers(0, 2, image.shape, dtype=np.int16) * 2 - 1
    return np.clip(image + step * signs, 0, 255).astype(np.uint8)
