"""Photograph → low resolution: Real-ESRGAN's second-order degradation, drawn first, applied exactly.

The pipeline is that of Wang et al., Real-ESRGAN (2021).
`draw` makes a record of every parameter, `apply` carries it out without any randomness of its own, so the record replays the
low-resolution image bit for bit. Against the published pipeline: JPEG is libjpeg (integer quality, 4:2:0) and Poisson noise its
Gaussian limit at 8 bits (variance value/256); everything else draws from the same ranges with the same probabilities.
"""

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fgr.errors import nearest

SIZES = tuple(range(7, 22, 2))  # kernel sides
FAMILY = (  # shape, isotropic, probability
    ("gaussian", True, 0.45), ("gaussian", False, 0.25), ("generalised", True, 0.12), ("generalised", False, 0.03),
    ("plateau", True, 0.12), ("plateau", False, 0.03),
)  # fmt: skip
BETAS = {"generalised": (0.5, 4.0), "plateau": (1.0, 2.0)}
SINC = 0.1  # probability of a sinc instead of the family above
POISSON, GREY = 0.5, 0.4  # probabilities of Poisson rather than Gaussian noise, and of noise alike in all channels
MODES = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
LEVELS = 256  # of an 8-bit image: the photon count that Poisson noise assumes for white
NEGLIGIBLE = 1 / 5100  # weight at a kernel's rim that is cut off: moves no pixel by more than 0.05 of an 8-bit step
DIRECT = 11  # the largest kernel side that OpenCV filters directly; above, a real FFT is two to three times as fast

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """One round of blur, resize, noise and JPEG: probabilities and ranges to draw from."""

    blur: float  # probability
    sigma: Range  # pixels
    resize: tuple[float, float, float]  # probabilities of up, down, keep
    factor: Range  # the smallest when down, the largest when up
    gaussian: Range  # standard deviation in 8-bit steps
    poisson: Range  # scale of the noise
    jpeg: tuple[int, int]  # quality; drawn once more at the end for the second round


@dataclass(frozen=True, slots=True)
class Preset:
    """Two rounds and the probability of the final sinc filter. No rounds: antialiased bicubic alone."""

    rounds: tuple[Stage, Stage] | None
    sinc: float = 0.0


PRESETS: dict[str, Preset] = {
    "real-esrgan": Preset(
        (
            Stage(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3.0), (30, 95)),
            Stage(0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
        ),
        sinc=0.8,
    ),
    "stablesr": Preset(  # the milder values of StableSR's training
        (
            Stage(1.0, (0.2, 1.5), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2.0), (60, 95)),
            Stage(0.5, (0.2, 1.0), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1.0), (60, 100)),
        ),
        sinc=0.8,
    ),
    "light": Preset(  # ours: what a phone and a messenger do, for small crops
        (
            Stage(0.8, (0.2, 1.0), (0.1, 0.5, 0.4), (0.6, 1.2), (1, 6), (0.05, 0.6), (70, 95)),
            Stage(0.2, (0.2, 0.6), (0.1, 0.3, 0.6), (0.8, 1.1), (1, 4), (0.05, 0.4), (75, 95)),
        ),
        sinc=0.4,
    ),
    "bicubic": Preset(None),
}


def draw(preset: str, rng: np.random.Generator, scale: int) -> dict[str, Any]:
    """Draw every parameter of one degradation by `scale`, as plain JSON values. ValueError for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"there is no degradation '{preset}'{nearest(preset, list(PRESETS))}")
    chosen = PRESETS[preset]
    record: dict[str, Any] = {"preset": preset, "scale": scale}
    if chosen.rounds is None:
        return record
    first, second = (_draw_stage(stage, rng) for stage in chosen.rounds)
    final = {
        "mode": _choice(rng, list(MODES)),
        "jpeg_last": bool(rng.random() < 0.5),
        "jpeg": second.pop("jpeg"),
        "kernel": _draw_sinc(rng, low=pi / 3) if rng.random() < chosen.sinc else None,
    }
    return record | {"first": first, "second": second, "final": final}


def apply(image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """Carry out `record` on `image`, uint8 (H, W, 3) RGB: uint8 (H / scale, W / scale, 3).

    The same bytes whatever OpenCV's thread count. ValueError unless both sides are multiples of the record's scale.
    """
    scale = record["scale"]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] % scale or image.shape[1] % scale:
        raise ValueError(f"expected uint8 (H, W, 3) with sides that are multiples of {scale}, got {image.dtype} {image.shape}")
    height, width = image.shape[0] // scale, image.shape[1] // scale
    if "first" not in record:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    work = _floats(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    first, second, final = record["first"], record["second"], record["final"]
    work = _jpeg(_stage(work, first, height * scale, width * scale), first["jpeg"])
    work = _stage(work, second, height, width)
    if not final["jpeg_last"]:
        work = _jpeg(work, final["jpeg"])
    work = _filter(_resize(work, height, width, final["mode"]), final["kernel"])
    if final["jpeg_last"]:
        work = _jpeg(work, final["jpeg"])
    return cv2.cvtColor(_bytes(work), cv2.COLOR_BGR2RGB)


def _draw_stage(stage: Stage, rng: np.random.Generator) -> dict[str, Any]:
    kernel = _draw_kernel(stage.sigma, rng) if rng.random() < stage.blur else None
    direction = _choice(rng, ["up", "down", "keep"], stage.resize)
    low, high = stage.factor
    factor = {"up": rng.uniform(1, high), "down": rng.uniform(low, 1), "keep": 1.0}[direction]
    poisson = bool(rng.random() < POISSON)
    noise = {
        "kind": "poisson" if poisson else "gaussian",
        "level": float(rng.uniform(*(stage.poisson if poisson else stage.gaussian))),
        "grey": bool(rng.random() < GREY),
        "seed": int(rng.integers(2**53)),
    }
    resize = {"factor": float(factor), "mode": _choice(rng, list(MODES))}
    return {"kernel": kernel, "resize": resize, "noise": noise, "jpeg": int(rng.integers(stage.jpeg[0], stage.jpeg[1] + 1))}


def _draw_kernel(sigma: Range, rng: np.random.Generator) -> dict[str, Any]:
    if rng.random() < SINC:
        return _draw_sinc(rng)
    index = int(rng.choice(len(FAMILY), p=[share for _, _, share in FAMILY]))
    shape, isotropic, _ = FAMILY[index]
    sigma_x = float(rng.uniform(*sigma))
    kernel = {"shape": shape, "isotropic": isotropic, "size": int(rng.choice(SIZES)), "sigma_x": sigma_x}
    kernel |= {"sigma_y": sigma_x, "rotation": 0.0} if isotropic else {
        "sigma_y": float(rng.uniform(*sigma)), "rotation": float(rng.uniform(-pi, pi)),
    }  # fmt: skip
    if shape in BETAS:
        low, high = BETAS[shape]
        kernel["beta"] = float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))
    return kernel


def _draw_sinc(rng: np.random.Generator, low: float | None = None) -> dict[str, Any]:
    size = int(rng.choice(SIZES))
    low = low or (pi / 3 if size < 13 else pi / 5)
    return {"shape": "sinc", "size": size, "omega": float(rng.uniform(low, pi))}


def _choice(rng: np.random.Generator, names: list[str], shares: tuple[float, ...] | None = None) -> str:
    return names[int(rng.choice(len(names), p=shares))]


def _stage(work: np.ndarray, stage: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Blur, resize to the drawn share of (height, width), add noise; clipped to [0, 1]. float32 (H, W, 3) in BGR order."""
    work = _filter(work, stage["kernel"])
    factor = stage["resize"]["factor"]
    work = _resize(work, max(1, round(height * factor)), max(1, round(width * factor)), stage["resize"]["mode"])
    noisy = _noisy(work, stage["noise"])
    return np.clip(noisy, 0, 1, out=noisy)


def _filter(work: np.ndarray, kernel: dict[str, Any] | None) -> np.ndarray:
    if kernel is None:
        return work
    weights = _trimmed(kernel_weights(kernel)).astype(np.float32)
    if kernel["shape"] == "gaussian" and kernel["isotropic"]:
        line = weights.sum(axis=0)  # an isotropic Gaussian is the product of its row and its column sums
        return cv2.sepFilter2D(work, cv2.CV_32F, line, line, borderType=cv2.BORDER_REFLECT_101)
    if len(weights) <= DIRECT:
        return cv2.filter2D(work, cv2.CV_32F, weights, borderType=cv2.BORDER_REFLECT_101)
    return _convolved(work, weights)


def _trimmed(weights: np.ndarray) -> np.ndarray:
    """The kernel without a rim of negligible weight, summing to 1 again."""
    rim = 0
    while (
        len(weights) - 2 * rim > 3
        and np.abs(weights).sum() - np.abs(weights[rim + 1 : -rim - 1, rim + 1 : -rim - 1]).sum() < NEGLIGIBLE
    ):
        rim += 1
    inner = weights[rim : len(weights) - rim, rim : len(weights) - rim]
    return inner / inner.sum()


def _convolved(work: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What cv2.filter2D gives, by way of the frequencies; mirrored at the borders."""
    from scipy import fft

    reach, (height, width) = len(weights) // 2, work.shape[:2]
    border = cv2.copyMakeBorder(work, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    size = fft.next_fast_len(border.shape[0], real=True), fft.next_fast_len(border.shape[1], real=True)
    spectrum = fft.rfft2(border, size, axes=(0, 1), workers=1)
    spectrum *= fft.rfft2(weights[::-1, ::-1], size, workers=1)[..., None]
    result = fft.irfft2(spectrum, size, axes=(0, 1), overwrite_x=True, workers=1)
    return np.ascontiguousarray(result[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width])


def kernel_weights(kernel: dict[str, Any]) -> np.ndarray:
    """The blur kernel that a record describes: float64 (size, size), summing to 1."""
    from fgr.images import basicsr_kernels

    if kernel["shape"] == "sinc":
        return basicsr_kernels.sinc(kernel["size"], kernel["omega"])
    beta = {"beta": kernel["beta"]} if "beta" in kernel else {}
    return basicsr_kernels.SHAPES[kernel["shape"]](
        kernel["size"], kernel["sigma_x"], kernel["sigma_y"], kernel["rotation"], isotropic=kernel["isotropic"], **beta
    )


def _resize(work: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    if work.shape[:2] == (height, width):
        return work
    return cv2.resize(work, (width, height), interpolation=MODES[mode])


def _noisy(work: np.ndarray, noise: dict[str, Any]) -> np.ndarray:
    drawn = _normal(noise["seed"], (*work.shape[:2], 1 if noise["grey"] else 3))
    if noise["kind"] == "gaussian":
        drawn *= np.float32(noise["level"] / 255)
        return work + drawn
    light = cv2.cvtColor(work, cv2.COLOR_BGR2GRAY)[..., None] if noise["grey"] else work
    drawn *= np.sqrt(np.maximum(light, 0))
    drawn *= np.float32(noise["level"] / np.sqrt(LEVELS))
    return work + drawn


def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise in 65,536 levels, three times as fast as drawing it exactly: float32 of `shape`."""
    return np.take(_quantiles(), np.random.default_rng(seed).integers(0, 1 << 16, shape, dtype=np.uint16))


@cache
def _quantiles() -> np.ndarray:
    from scipy.special import ndtri

    return ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)


def _jpeg(work: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", _bytes(work), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: np.ndarray = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]  # never None: it was just made
    return _floats(decoded)


def _floats(image: np.ndarray) -> np.ndarray:
    return cv2.multiply(image, (1 / 255,) * 4, dtype=cv2.CV_32F)  # type: ignore[call-overload]  # the stubs lack scalars


def _bytes(work: np.ndarray) -> np.ndarray:
    """Rounded and clipped: uint8 of the same shape."""
    return cv2.multiply(work, (255.0,) * 4, dtype=cv2.CV_8U)  # type: ignore[call-overload]
