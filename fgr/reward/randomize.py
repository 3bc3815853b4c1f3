"""Randomised copies of images, on which a reward is judged: what vanishes under them buys nothing.

A pattern that a network found by following a reward's gradient – a lattice of one period and phase, a step of 8 bits here and
there – does not survive a shift by a pixel, a mild resampling or the rounding to 8 bits; what people see does. A reward that is
the mean over such copies pays for the latter alone.

What is drawn follows from the image as it is seen from far: whatever batch it is in, and with the small changes whose effect is
asked for, an image is judged by the same draws, while two images hardly ever are; and a run that is resumed draws what it drew.
Gradients pass through; the rounding counts as the identity.
"""

import hashlib
import math
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

RESAMPLED, SMALLEST = 0.5, 0.85  # share of the copies that are scaled down and back, and the least factor
SIGMA, SHARP = 0.8, 0.2  # largest sigma of the blur in pixels; below the second there is none
LEVELS = 8  # of a mean colour that choose an image's draws


class Copy(NamedTuple):
    """A changed copy of images (B, 3, H, W), and by how many pixels (down, right) it was moved."""

    images: torch.Tensor
    shift: tuple[int, int]

    def back(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, 1, H, W) of the copy as those of the images."""
        return shifted(maps, (-self.shift[0], -self.shift[1]))


class Randomized(nn.Module):
    """A reward model that gives the mean score and map over `draws` randomised copies of each image.

    It costs `draws` times as much as the model, memory for gradients too.
    """

    def __init__(self, model: Any, draws: int) -> None:
        super().__init__()
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        self.model, self.draws = model, draws

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """score (B,) and map (B, 1, H, W) of image (B, 3, H, W) in [0, 1]; differentiable."""
        scores, maps = [], []
        for number in range(self.draws):
            copies = [randomized(one, seed_of(one) + number) for one in image.split(1)]
            score, map_ = self.model(torch.cat([copy.images for copy in copies]))
            scores.append(score)
            maps.append(torch.cat([copy.back(part) for copy, part in zip(copies, map_.split(1), strict=True)]))
        return torch.stack(scores).mean(0), torch.stack(maps).mean(0)


def randomized(images: torch.Tensor, seed: int) -> Copy:
    """A copy of float images (B, 3, H, W) in [0, 1], all changed alike but for the dither.

    Moved by up to a pixel; half of the time scaled to 0.85 … 1 and back; blurred by a sigma of up to 0.8 pixels; dithered by one
    step of 8 bits and rounded to them.
    """
    source = torch.Generator().manual_seed(seed)
    drawn = torch.rand(5, generator=source).tolist()
    shift = (int(3 * drawn[0]) - 1, int(3 * drawn[1]) - 1)
    copy = shifted(images, shift)
    if drawn[2] < RESAMPLED:
        copy = _resampled(copy, SMALLEST + (1 - SMALLEST) * drawn[3])
    if SIGMA * drawn[4] > SHARP:
        copy = _blurred(copy, SIGMA * drawn[4])
    dither = torch.rand(images.shape, generator=source).to(copy)
    rounded = (copy * 255 + dither - 0.5).round().clamp(0, 255) / 255
    return Copy(copy + (rounded - copy).detach(), shift)


def seed_of(images: torch.Tensor) -> int:
    """A seed in [0, 2**63) from the quarters' mean colours of float images (B, 3, H, W) in [0, 1], told apart in eighths."""
    colours = functional.adaptive_avg_pool2d(images.detach().float(), 2)
    digits = (colours * LEVELS).clamp(0, LEVELS - 1).to(torch.uint8).cpu().numpy().tobytes()
    return int.from_bytes(hashlib.sha256(digits).digest()[:8], "big") >> 1


def shifted(x: torch.Tensor, shift: tuple[int, int]) -> torch.Tensor:
    """x (B, C, H, W) moved by (down, right), each −1, 0 or 1 pixel; the edge is repeated."""
    (down, right), (height, width) = shift, x.shape[-2:]
    if not down and not right:
        return x
    return functional.pad(x, (1, 1, 1, 1), mode="replicate")[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]


def _resampled(images: torch.Tensor, factor: float) -> torch.Tensor:
    height, width = images.shape[-2:]
    small = functional.interpolate(
        images, (max(1, round(height * factor)), max(1, round(width * factor))), mode="bilinear", antialias=True
    )
    return functional.interpolate(small, (height, width), mode="bilinear")


def _blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    taps = torch.tensor([math.exp(-((place / sigma) ** 2) / 2) for place in range(-2, 3)]).to(images)
    row = (taps / taps.sum()).view(1, 1, 1, 5).expand(images.shape[1], 1, 1, 5)
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, row, groups=images.shape[1]), row.transpose(2, 3), groups=images.shape[1])
