"""Pixels before and after a diffusion model: enlarging on 8 bits, and colours from the input."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

LEVELS = 5  # of the wavelet decomposition
BINOMIAL = (0.25, 0.5, 0.25)


def enlarge(images: torch.Tensor, height: int, width: int, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> torch.Tensor:
    """float32 (B, 3, h, w) in [0, 1] → (B, 3, height, width) as Pillow does it, rounded to 255ths."""
    pixels = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    resized = [np.asarray(Image.fromarray(one).resize((width, height), kernel)) for one in pixels]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).to(images.device).float().div_(255).contiguous()


def enlarge_twice(
    images: torch.Tensor, scale: int, least: int, multiple: int, last: Image.Resampling = Image.Resampling.BICUBIC
) -> torch.Tensor:
    """First so that the shorter side times `scale` is `least` pixels, where it is less; then by `scale`; then, with the kernel
    `last`, down to sides that are multiples of `multiple`."""
    height, width = images.shape[2:]
    factor = least // scale / min(height, width)
    if factor > 1:
        height, width = int(height * factor), int(width * factor)
        images = enlarge(images, height, width)
    height, width = height * scale, width * scale
    images = enlarge(images, height, width)
    if height % multiple or width % multiple:
        images = enlarge(images, height - height % multiple, width - width % multiple, last)
    return images


def fitted(images: torch.Tensor, size: tuple[int, int], bounded: bool = True) -> torch.Tensor:
    """Images of that (height, width): those of another are brought there by antialiased bicubic interpolation, if `bounded`
    after they are clamped to [0, 1]."""
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(images.clamp(0, 1) if bounded else images, size, mode="bicubic", antialias=True)


def adain(image: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
    """`image` with the mean and the standard deviation of each channel of `colors` (adaptive instance normalisation)."""
    mean, deviation = _moments(image)
    wanted_mean, wanted_deviation = _moments(colors)
    return (image - mean) / deviation * wanted_deviation + wanted_mean


def wavelet(image: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
    """The fine structure of `image` on the lowest band of `colors`; both of the same size."""
    return image - _lowest_band(image) + _lowest_band(colors)


COLOR_FIXES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {  # both (B, 3, H, W)
    "none": lambda image, colors: image,
    "adain": adain,
    "wavelet": wavelet,
}


def _moments(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    variance, mean = torch.var_mean(image, dim=(2, 3), keepdim=True)
    return mean, (variance + 1e-5).sqrt()


def _lowest_band(image: torch.Tensor) -> torch.Tensor:
    """`image` blurred again and again by a 3×3 binomial kernel whose taps move apart: the à trous transform."""
    row = torch.tensor(BINOMIAL, dtype=image.dtype, device=image.device)
    kernel = torch.outer(row, row).expand(image.shape[1], 1, 3, 3)
    for level in range(LEVELS):
        apart = 2**level
        padded = functional.pad(image, (apart,) * 4, mode="replicate")
        image = functional.conv2d(padded, kernel, groups=image.shape[1], dilation=apart)
    return image
