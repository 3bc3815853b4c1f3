"""Latents and inputs larger than a model takes: overlapping tiles, averaged where they overlap."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fgr.errors import UserError

VARIANCE = 0.01  # of the weights' Gaussian, in units of the tile's side

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # tiles of the latent and of its condition → prediction
Weigh = Callable[[int, int], torch.Tensor]  # height and width of a tile → its weights


@dataclass(frozen=True)
class Chop:
    """How an input that is larger than `side` low-resolution pixels is restored: in pieces, each by a sampling of its own."""

    side: int
    overlap: int
    weigh: Weigh
    clamped: bool  # pieces are brought to [0, 1] before they are averaged

    @classmethod
    def of(cls, settings: Mapping[str, Any], weigh: Weigh, clamped: bool = False) -> "Chop":
        """By the settings `chop` and `chop_overlap`. UserError where pieces cannot share so much."""
        side, overlap = settings["chop"], settings["chop_overlap"]
        if side and overlap >= side:
            raise UserError(f"Pieces of {side} pixels cannot overlap by {overlap}.", "Lower chop_overlap, or raise chop.")
        return cls(side, overlap, weigh, clamped)

    def restore(self, images: torch.Tensor, restore: Callable[[torch.Tensor], torch.Tensor], scale: int) -> torch.Tensor:
        """`restore` of images (B, 3, h, w), whole or in pieces: (B, 3, h·scale, w·scale)."""
        if not self.side or max(images.shape[2:]) <= self.side:
            return restore(images)
        bounded = (lambda piece, _: restore(piece).clamp(0, 1)) if self.clamped else (lambda piece, _: restore(piece))
        return predict_in_tiles(bounded, images, images, self.side, self.overlap, scale, self.weigh)


def predict_in_tiles(
    predict: Predict, latent: torch.Tensor, condition: torch.Tensor, tile: int, overlap: int, scale: int = 1,
    weigh: Weigh | None = None,
) -> torch.Tensor:  # fmt: skip
    """`predict` over (B, C, H, W) in tiles, averaged where they overlap with weights that fall off from their middles.

    Tiles lie `tile − overlap` apart; the last of a row and of a column end at the edge. Sides up to `tile` are taken whole.
    What is predicted has `scale` times the sides.
    """
    height, width = latent.shape[2:]
    rows, columns = offsets(height, tile, overlap), offsets(width, tile, overlap)
    if len(rows) == len(columns) == 1:
        return predict(latent, condition)
    weight = (weigh or weights)(min(tile, height) * scale, min(tile, width) * scale).to(latent.device, latent.dtype)
    total, sums = (latent.new_zeros(*shape, height * scale, width * scale) for shape in ((1, 1), latent.shape[:2]))
    for top, left in ((top, left) for top in rows for left in columns):
        place = (..., slice(top, top + tile), slice(left, left + tile))
        there = (..., slice(top * scale, (top + tile) * scale), slice(left * scale, (left + tile) * scale))
        sums[there] += predict(latent[place], condition[place]) * weight
        total[there] += weight
    return sums / total


def square_tile(latent: torch.Tensor, tile: int, overlap: int) -> tuple[int, int]:
    """Tile and overlap for (B, C, H, W) by the rule of OSEDiff and SeeSR: whole up to a tile's area (0: always), else square."""
    height, width = latent.shape[2:]
    if not tile or height * width <= tile**2:
        return max(height, width), 0
    side = min(tile, height, width)
    return side, min(overlap, side - 1)


def offsets(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side of `length`. ValueError unless overlap < tile."""
    if overlap >= tile:
        raise ValueError(f"tiles of {tile} cannot share {overlap}")
    if length <= tile:
        return [0]
    number = math.ceil((length - tile) / (tile - overlap)) + 1
    return [min(i * (tile - overlap), length - tile) for i in range(number)]


def weights(height: int, width: int) -> torch.Tensor:
    """float32 (height, width). The published weights have their middle at (width − 1)/2, but at height/2: kept as they are."""
    return torch.outer(_gaussian(height, height / 2), _gaussian(width, (width - 1) / 2)).float()


def centred(height: int, width: int) -> torch.Tensor:
    """The same with the middle of both sides where it is, as PiSA-SR has them."""
    return torch.outer(_gaussian(height, (height - 1) / 2), _gaussian(width, (width - 1) / 2)).float()


def even(height: int, width: int) -> torch.Tensor:
    """Ones: all that a tile gives counts alike."""
    return torch.ones(height, width)


def _gaussian(length: int, middle: float) -> torch.Tensor:
    distance = (torch.arange(length, dtype=torch.float64) - middle) / length
    return torch.exp(-(distance**2) / (2 * VARIANCE)) / math.sqrt(2 * math.pi * VARIANCE)
