"""Planted defects: known artifacts drawn into an image at a chosen severity.

Real SR networks smooth far more often than they add, so that a model trained on their outputs alone learns that more detail is
always better. What is planted here is worse in every direction: lattices and grain that look like detail, ringing and
over-sharpening, but also smoothing, banding, blocking, wrong texture, warps and colour casts.

A defect is drawn in two steps: `draw(kind, rng, shape)` settles its parameters (period, phase, pattern), and the function that
comes back applies it at a strength in [0, 1]. More strength, more difference to the original: `matched` finds the strength at
which a given difference is reached, so that severities compare across kinds. Pure: images in, images out, randomness by `rng`.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fgr.images.structural import tolerant_ssim_difference
from fgr.records import LATTICE_PERIODS

Apply = Callable[
    [np.ndarray, float], np.ndarray
]  # float32 (H, W, 3) in [0, 255] and a strength in [0, 1] → the same shape, not clipped
Distance = Callable[[np.ndarray, np.ndarray], float]  # two uint8 (H, W, 3) images → how much they differ

PERIODS = LATTICE_PERIODS
CHECKERBOARDS = (2, 4, 6)  # of them, those of checkerboards
LARGEST_AMPLITUDE = 48.0  # of lattices and grain at strength 1, in steps of 8 bits
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
    possible = [period for period in LATTICES[kind] if period in periods]
    if not possible:
        raise ValueError(f"{kind} have the periods {', '.join(map(str, LATTICES[kind]))}, not {', '.join(map(str, periods))}")
    return DRAWN_WITH_PERIOD[kind](rng, shape, possible)


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


# ---- what adds structure ----


def _grain(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """Gaussian noise, grey or coloured, fine or a little coarse."""
    channels = 1 if rng.random() < 0.5 else 3
    noise: np.ndarray = rng.standard_normal((*shape, channels)).astype(np.float32)
    if rng.random() < 0.5:
        noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.5, 1.0))).reshape(*shape, channels)
        noise = noise / noise.std()
    return _added(noise, LARGEST_AMPLITUDE / 2)


def _checkerboard(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = CHECKERBOARDS) -> Apply:
    rows, columns = _phases(rng, shape, period := int(rng.choice(periods)))
    half = period // 2
    return _added(_colored(rng, np.where((rows < half) == (columns < half), 1.0, -1.0)), LARGEST_AMPLITUDE / 2)


def _lines(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    period = int(rng.choice(periods))
    rows, columns = _phases(rng, shape, period)
    along = rows if rng.random() < 0.5 else columns
    return _added(_colored(rng, np.cos(2 * np.pi * along / period)), LARGEST_AMPLITUDE)


def _dots(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    """A lattice of single pixels, as networks draw that were tuned against a blind reward."""
    rows, columns = _phases(rng, shape, int(rng.choice(periods)))
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return _added(_colored(rng, np.where((rows == 0) & (columns == 0), sign, 0.0)), 1.5 * LARGEST_AMPLITUDE)


def _tiles(rng: np.random.Generator, shape: tuple[int, int], periods: Sequence[int] = PERIODS) -> Apply:
    """A random tile over and over, as a network's last layer draws that makes a square of pixels from each one of its input."""
    rows, columns = _phases(rng, shape, period := int(rng.choice(periods)))
    tile: np.ndarray = rng.standard_normal((period, period, 3 if rng.random() < 0.5 else 1))
    tile -= tile.mean(axis=(0, 1))
    return _by_contrast(rng, (tile / tile.std())[rows, columns], LARGEST_AMPLITUDE / 2)


def _weave(rng: np.random.Generator, shape: tuple[int, int]) -> Apply:
    """A texture of its own: noise from one to three narrow parts of the spectrum, in any direction, soft or hard, grey or coloured."""
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
    "grain": _grain,
    "checkerboard": _checkerboard,
    "lines": _lines,
    "dots": _dots,
    "tiles": _tiles,
    "weave": _weave,
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
DRAWN_WITH_PERIOD: dict[str, Callable[[np.random.Generator, tuple[int, int], Sequence[int]], Apply]] = {
    "checkerboard": _checkerboard,
    "lines": _lines,
    "dots": _dots,
    "tiles": _tiles,
}
LATTICES: dict[str, tuple[int, ...]] = {"checkerboard": CHECKERBOARDS, "lines": PERIODS, "dots": PERIODS, "tiles": PERIODS}  # kind → its periods


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
