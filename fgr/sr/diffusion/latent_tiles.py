"""Latents larger than a model was trained on: overlapping tiles, averaged at every step."""

import math
from collections.abc import Callable

import torch

VARIANCE = 0.01  # of the weights' Gaussian, in units of the tile's side

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # tiles of the latent and of its condition → prediction


def predict_in_tiles(predict: Predict, latent: torch.Tensor, condition: torch.Tensor, tile: int, overlap: int) -> torch.Tensor:
    """`predict` over (B, C, H, W) in tiles, averaged where they overlap with weights that fall off from their middles.

    Tiles lie `tile − overlap` apart; the last of a row and of a column end at the edge. Sides up to `tile` are taken whole.
    """
    height, width = latent.shape[2:]
    rows, columns = offsets(height, tile, overlap), offsets(width, tile, overlap)
    if len(rows) == len(columns) == 1:
        return predict(latent, condition)
    weight = weights(min(tile, height), min(tile, width)).to(latent.device, latent.dtype)
    total, sums = torch.zeros_like(latent[:1, :1]), torch.zeros_like(latent)
    for top, left in ((top, left) for top in rows for left in columns):
        place = (..., slice(top, top + tile), slice(left, left + tile))
        sums[place] += predict(latent[place], condition[place]) * weight
        total[place] += weight
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


def _gaussian(length: int, middle: float) -> torch.Tensor:
    distance = (torch.arange(length, dtype=torch.float64) - middle) / length
    return torch.exp(-(distance**2) / (2 * VARIANCE)) / math.sqrt(2 * math.pi * VARIANCE)
