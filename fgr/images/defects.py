"""Planted defects: known artifacts drawn into an image at a chosen severity.

Real SR networks smooth far more often than they add, so that a model trained on their outputs alone learns that more detail is
always better. What is planted here is worse in every direction: lattices and grain that look like detail, ringing and
over-sharpening, but also smoothing, banding, blocking, wrong texture, warps and colour casts.

A defect is drawn in two steps: `draw(kind, rng, shape)` settles its parameters (period, phase, pattern), and the function that
comes back applies it at a strength in [0, 1]. More strength, more difference to the original: `matched` finds the strength at
which a given difference is reached, so that severities compare across kinds. Pure: images in, images out, randomness by `rng`.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fgr.images import patterns
from fgr.images.patterns import LATTICES, PERIODS, Apply
from fgr.images.structural import tolerant_ssim_difference

Distance = Callable[[np.ndarray, np.ndarray], float]  # two uint8 (H, W, 3) images → how much they differ

TINT, STRONG_TINT = 3.0, 27.0  # steps of 8 bits of chroma, over an area, that are not seen yet, and that count as 1
TINT_SIGMA = 4.0  # of the Gaussian over which tints are compared, in pixels
BLOCK = 8  # side of a block of JPEG
HALVINGS = 12  # of the interval in which `matched` looks for a strength


def plant(image: np.ndarray, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """`image`, uint8 (H, W, 3), with a defect of `kind` at `strength` in [0, 1]: the same type; at strength 0 the same pixels.

    ValueError: a kind that is not in `KINDS`, a strength outside [0, 1], or an image of another type.
    """
    return at_strength(image, draw(kind, rng, image.shape[:2]), strength)


def matched(
    image: np.ndarray, kind: str, target: float, distance: Distance, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """`image`, uint8 (H, W, 3), with a defect of `kind` that differs from it by `target`, and the strength that took.

    `distance(image, planted)` grows with the strength. If strength 1 stays below the target, that is the result.
    """
    apply = draw(kind, rng, image.shape[:2])
    low, high = 0.0, 1.0
    if distance(image, at_strength(image, apply, high)) <= target:
        return at_strength(image, apply, high), high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if distance(image, at_strength(image, apply, middle)) < target:
            low = middle
        else:
            high = middle
    return at_strength(image, apply, high), high


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    """The defect `kind` with its parameters drawn for images of `shape` (height, width); a lattice's period is one of `periods`.

    ValueError: an unknown kind, or a lattice that none of the periods fits (a checkerboard's are even and at most 6).
    """
    if kind not in KINDS:
        raise ValueError(f"there is no defect '{kind}'; known: {', '.join(KINDS)}")
    if kind not in LATTICES:
        return KINDS[kind](rng, shape)
    lattice, known = LATTICES[kind]
    possible = [period for period in known if period in periods]
    if not possible:
        raise ValueError(f"{kind} have the periods {', '.join(map(str, known))}, not {', '.join(map(str, periods))}")
    return lattice(rng, shape, possible)


def at_strength(image: np.ndarray, apply: Apply, strength: float) -> np.ndarray:
    """A drawn defect applied to a uint8 (H, W, 3) image, rounded to 8 bits. ValueError: another type, or strength."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if not 0 <= strength <= 1:
        raise ValueError(f"a strength lies in [0, 1], got {strength}")
    if strength == 0:
        return image.copy()
    return np.clip(np.rint(apply(image.astype(np.float32), strength)), 0, 255).astype(np.uint8)


def structure_or_tint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The larger of tolerant 1 − SSIM and the change of tint of two uint8 (H, W, 3) images: float32 (H, W) in [0, 1].

    SSIM is of luminance alone and blind to colour casts. Tints are compared over an area: the eye does not resolve chroma finely.
    """
    chroma = [cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32) for image in (a, b)]
    tint = np.linalg.norm(cv2.GaussianBlur(chroma[1] - chroma[0], (0, 0), TINT_SIGMA, borderType=cv2.BORDER_REFLECT), axis=2)
    return np.maximum(tolerant_ssim_difference(a, b), np.clip((tint - TINT) / (STRONG_TINT - TINT), 0, 1).astype(np.float32))


# ---- what adds structure, beside patterns ----


def _ringing(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    return ringing(float(rng.uniform(0.12, 0.3)))


def ringing(cutoff: float) -> Apply:
    """Echoes beside edges: the residual of a sharp low-pass filter, `cutoff` in cycles a pixel, in both directions."""
    taps = np.arange(-12, 13)
    kernel = np.sinc(2 * cutoff * taps) * 2 * cutoff
    kernel = (kernel / kernel.sum()).astype(np.float32)

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        low = cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
        smooth = cv2.GaussianBlur(image, (0, 0), 0.4 / cutoff, borderType=cv2.BORDER_REFLECT)
        return image + 4 * strength * (low - smooth)

    return apply


def _sharpening(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    return sharpening(float(rng.uniform(0.6, 2.5)))


def sharpening(sigma: float) -> Apply:
    """Unsharp masking beyond what is good."""
    return lambda image, strength: image + 6 * strength * (image - cv2.GaussianBlur(image, (0, 0), sigma))


# ---- what takes structure away ----


def _smoothing(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    return smoothing(float(rng.uniform(2, 5)))


def smoothing(space: float) -> Apply:
    """Edges kept, texture gone, as of a painter: a bilateral filter, faded in."""

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        flat = cv2.bilateralFilter(image, 0, 15 + 150 * strength, space)
        return image + min(1.0, 2 * strength) * (flat - image)

    return apply


def _blur(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    return lambda image, strength: cv2.GaussianBlur(image, (0, 0), 0.2 + 4 * strength, borderType=cv2.BORDER_REFLECT)


def _banding(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """Too few levels of grey."""
    offset = float(rng.uniform(0, 1))

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        step = 1 + 63 * strength
        return (np.floor(image / step + offset) - offset + 0.5) * step

    return apply


def _blocking(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """Each block of 8×8 pixels moved towards its mean and by a step of its own, as strong JPEG does."""
    rows, columns = (-(-side // BLOCK) for side in shape)
    steps = rng.standard_normal((rows, columns, 1)).astype(np.float32)

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        height, width = image.shape[:2]
        padded = cv2.copyMakeBorder(image, 0, rows * BLOCK - height, 0, columns * BLOCK - width, cv2.BORDER_REFLECT)
        means = padded.reshape(rows, BLOCK, columns, BLOCK, 3).mean(axis=(1, 3)) + 12 * strength * steps
        blocks = np.repeat(np.repeat(means, BLOCK, axis=0), BLOCK, axis=1)[:height, :width]
        return image + strength * (blocks - image)

    return apply


# ---- what puts the wrong thing in place ----


def _texture_swap(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """The fine structure of another part of the image in place of its own."""
    down, right = (int(rng.integers(side // 4, max(side // 4 + 1, 3 * side // 4))) for side in shape)
    flip = rng.random() < 0.5

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        coarse = cv2.GaussianBlur(image, (0, 0), 3, borderType=cv2.BORDER_REFLECT)
        fine = image - coarse
        other = np.roll(fine[:, ::-1] if flip else fine, (down, right), axis=(0, 1))
        return image + strength * (other - fine)

    return apply


def _warp(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """Lines that wobble: pixels moved by a smooth random field of up to six pixels."""
    height, width = shape
    field: np.ndarray = rng.standard_normal((height, width, 2)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), float(rng.uniform(3, 8)), borderType=cv2.BORDER_REFLECT)
    field = field / np.abs(field).max()
    rows, columns = np.mgrid[:height, :width].astype(np.float32)

    def apply(image: np.ndarray, strength: float) -> np.ndarray:
        moved = np.float32(6 * strength) * field
        return cv2.remap(image, columns + moved[..., 0], rows + moved[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    return apply


def _colour_cast(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    tint = rng.standard_normal(3).astype(np.float32)
    tint -= tint.mean()
    tint /= np.abs(tint).max()
    return lambda image, strength: image + 48 * strength * tint


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Apply]] = {
    "grain": patterns.grain,
    "checkerboard": patterns.checkerboard,
    "lines": patterns.lines,
    "dots": patterns.dots,
    "tiles": patterns.tiles,
    "weave": patterns.weave,
    "ringing": _ringing,
    "sharpening": _sharpening,
    "smoothing": _smoothing,
    "blur": _blur,
    "banding": _banding,
    "blocking": _blocking,
    "texture-swap": _texture_swap,
    "warp": _warp,
    "colour-cast": _colour_cast,
}
