"""The map decoder: a pyramid of logits that grows finer stage by stage."""

import math

import torch
from torch import nn
from torch.nn import functional

from fgr.reward.encoder import ChannelNorm, centred

CLEAN_LOGIT = -3.0  # the untrained map is near 0.05: most pixels of most images are clean
LARGEST_LOGIT = 10.0  # a map stays within 5e-5 of 0 and 1, where the losses still have a gradient


class Level(nn.Module):
    """One level: takes in a feature, fuses it with the coarser level and adds its own detail to the logits."""

    def __init__(self, channels: int, coarser: int, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.lateral = nn.Conv2d(channels, width, 1)
        self.carry = nn.Conv2d(coarser, width, 1) if coarser else None
        self.fuse = nn.Conv2d(width, width, 3, padding=1)
        self.out = nn.Conv2d(width, 1, 3, padding=1)
        centred(self)
        self.out.weight.data.zero_()
        self.out.bias.data.fill_(0.0 if coarser else CLEAN_LOGIT)  # type: ignore[union-attr]

    def forward(
        self, feature: torch.Tensor, state: torch.Tensor | None, logits: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.lateral(self.norm(feature))
        if self.carry is not None and state is not None:
            x = x + _resize(self.carry(state), x)
        x = functional.gelu(x)
        x = x + functional.gelu(self.fuse(x))
        detail = self.out(x)
        return x, detail if logits is None else _resize(logits, detail) + detail


class Decoder(nn.Module):
    """Fuses the `levels` deepest features, coarse to fine, into the logits of the map at the finest level's grid.

    Every level adds to the upsampled logits of the coarser ones and starts at zero: a model grown by a level first gives the
    very map of the stage before.
    """

    def __init__(self, channels: tuple[int, ...], levels: int, width: int) -> None:
        super().__init__()
        widths = [max(8, int(width * 0.7**depth) // 8 * 8) for depth in range(levels)]
        coarser = [0, *widths[:-1]]
        used = channels[::-1][:levels]
        self.levels = nn.ModuleList(Level(*sizes) for sizes in zip(used, coarser, widths, strict=True))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Logits (B, 1, h, w) from features given finest first."""
        state: torch.Tensor | None = None
        logits: torch.Tensor | None = None
        for level, feature in zip(self.levels, features[::-1], strict=False):
            state, logits = level(feature, state, logits)
        assert logits is not None
        return bounded(logits)

    def set_mean(self, mean: float) -> None:
        """Let the coarsest level's bias alone give a map of `mean`, in (0, 1)."""
        logit = math.log(mean / (1 - mean))
        self.levels[0].out.bias.data.fill_(logit / (1 - abs(logit) / LARGEST_LOGIT))  # type: ignore[union-attr,operator]


def bounded(logits: torch.Tensor) -> torch.Tensor:
    """Logits squeezed into ±LARGEST_LOGIT by x / (1 + |x| / LARGEST_LOGIT).

    A sigmoid of unbounded logits is exactly 1 in float32 from 17 on: its gradient is 0, and a map that one large step has taken
    there stays there for good.
    """
    return logits / (1 + logits.abs() / LARGEST_LOGIT)


def _resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
