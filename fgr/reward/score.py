"""Scoring images of any size: score and map, tiled if large, and overlays of the map."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from fgr.images import codec
from fgr.reward.randomize import randomized, seed_of

BAR, LEAST_LABELLED = 48, 48  # width of the colour bar, and the height from which on it has numbers
HALO = 96  # pixels around a tile that are seen but not counted
TOGETHER = (2**22, 2**17)  # pixels that go through the network at once: on a GPU; on the CPU, whose cache holds no more


def score(model: Any, image: np.ndarray, tile: int = 1024, draws: int = 0) -> tuple[float, np.ndarray]:
    """Score and float32 (H, W) map of a uint8 (H, W, 3) image; in tiles of about `tile` pixels if it is larger, 0 = never.

    Tiles overlap, and their features are summed before the score's MLP, so the score is that of the whole image but for what
    the encoder sees beyond the overlap. With `draws` it is the mean over as many randomised copies of the whole image, which
    cost as many times as much.
    """
    return _together(model, [image], tile, draws)[0]


def score_many(model: Any, images: Iterable[np.ndarray], tile: int = 1024, draws: int = 0) -> Iterator[tuple[float, np.ndarray]]:
    """`score` of each image in order; consecutive images of one size go through the network together, as many as fit."""
    kind = next(model.parameters()).device.type
    for shape, alike in groupby(images, lambda image: image.shape):
        whole = not tile or max(shape[:2]) <= tile
        count = max(1, TOGETHER[kind == "cpu"] // (shape[0] * shape[1])) if whole else 1
        while batch := list(islice(alike, count)):
            yield from _together(model, batch, tile, draws)


@torch.inference_mode()
def _together(model: Any, images: Sequence[np.ndarray], tile: int, draws: int) -> list[tuple[float, np.ndarray]]:
    device = next(model.parameters()).device
    whole = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
    if not draws:
        scores, maps = _tiled(model, whole, tile)
        return list(zip(scores.tolist(), maps, strict=True))
    pixels, found = whole.float() / 255, []
    for number in range(draws):
        copies = [randomized(one, seed_of(one) + number) for one in pixels.split(1)]
        scores, maps = _tiled(model, torch.cat([copy.images for copy in copies]), tile)
        back = [copy.back(torch.from_numpy(map_)[None, None])[0, 0].numpy() for copy, map_ in zip(copies, maps, strict=True)]
        found.append((scores, np.stack(back)))
    means = np.mean([scores for scores, _ in found], axis=0), np.mean([maps for _, maps in found], axis=0)
    return list(zip(means[0].tolist(), means[1], strict=True))


def _tiled(model: Any, whole: torch.Tensor, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (B,) and maps (B, H, W) of uint8, or float in [0, 1], images (B, 3, H, W)."""
    height, width = whole.shape[-2:]
    step = max(model.multiple, tile // model.multiple * model.multiple) if tile else max(height, width)
    maps = np.zeros((len(whole), height, width), np.float32)
    sums: Any = 0
    weights: Any = 0
    for top in range(0, height, step):
        for left in range(0, width, step):
            inner = (slice(top, min(top + step, height)), slice(left, min(left + step, width)))
            part, weight, part_maps = _tile(model, whole, inner)
            sums, weights = sums + part, weights + weight
            maps[(slice(None), *inner)] = part_maps
    return model.score_of(sums, weights).reshape(len(whole)).double().cpu().numpy(), maps


class ScoredImage(NamedTuple):
    """An image's score, larger = better; its map, float32 (H, W) in [0, 1]; the mean of the map's worst 1 %; and the score
    calibrated to 0 … 1, restored … clean images of the model's validation set, None where the model has no such scale."""

    score: float
    map: np.ndarray
    worst: float
    calibrated: float | None


def scored(model: Any, image: np.ndarray, tile: int = 1024, draws: int = 0) -> ScoredImage:
    """What `score` gives of a uint8 (H, W, 3) image, how bad the worst place of its map is, and what the score means."""
    value, map_ = score(model, image, tile, draws)
    scale = model.score_scale
    return ScoredImage(value, map_, worst(map_), scale.calibrated(value) if scale else None)


def _tile(model: Any, whole: torch.Tensor, inner: tuple[slice, slice]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    halo = -(-HALO // model.multiple) * model.multiple
    outer, relative = [], []
    for part, side in zip(inner, whole.shape[-2:], strict=True):
        start = max(0, part.start - halo)
        outer.append(slice(start, min(side, part.stop + halo)))
        relative.append(slice(part.start - start, part.stop - start))
    pixels = whole[:, :, outer[0], outer[1]]
    pixels = (pixels if pixels.is_floating_point() else pixels.float() / 255).contiguous()
    valid = torch.zeros_like(pixels[:, :1])
    valid[:, :, relative[0], relative[1]] = 1
    sums, weight, map_ = model.pooled(pixels, valid)
    return sums, weight, map_[:, 0, relative[0], relative[1]].float().cpu().numpy()


def worst(map_: np.ndarray, share: float = 0.01) -> float:
    """Mean of the worst `share` of a map's pixels."""
    count = max(1, round(share * map_.size))
    return float(np.partition(map_.ravel(), -count)[-count:].mean())


def overlay(image: np.ndarray, map_: np.ndarray) -> np.ndarray:
    """The uint8 (H, W, 3) image, greyed, under its map in a colour map: the worse, the brighter and the less transparent."""
    colours = cv2.cvtColor(cv2.applyColorMap(np.rint(map_ * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    alpha = np.clip(map_ * 1.5, 0, 0.85)[..., None]
    return np.rint(grey * (1 - alpha) + colours * alpha).astype(np.uint8)


def with_colour_bar(image: np.ndarray) -> np.ndarray:
    """The uint8 (H, W, 3) image with a bar at its right that says which colour is which value of the map: (H, W + BAR, 3)."""
    height = image.shape[0]
    values = np.linspace(255, 0, height).astype(np.uint8)[:, None].repeat(BAR // 3, axis=1)
    bar = np.full((height, BAR, 3), 255, np.uint8)
    bar[:, BAR // 6 : BAR // 6 + BAR // 3] = cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    for value, row in ((1, 10), (0.5, height // 2 + 4), (0, height - 4)) if height >= LEAST_LABELLED else ():
        cv2.putText(bar, f"{value:g}", (BAR // 2 + 3, row), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([image, bar], axis=1)


def save_overlay(folder: Path, file: Path, image: np.ndarray, map_: np.ndarray) -> Path:
    """Write the overlay of an image's map, a colour bar beside it, into `folder` as NAME-map.png and return its path."""
    from fgr import atomic

    _, data = cv2.imencode(".png", cv2.cvtColor(with_colour_bar(overlay(image, map_)), cv2.COLOR_RGB2BGR))
    path = folder / f"{file.name}-map.png"
    atomic.write_bytes(path, data.tobytes())
    return path


def save_map(folder: Path, file: Path, map_: np.ndarray) -> Path:
    """Write a map into `folder` as NAME-map16.png, 16-bit grey, value / 65535, and return its path."""
    from fgr import atomic

    path = folder / f"{file.name}-map16.png"
    atomic.write_bytes(path, codec.encode_map(map_))
    return path
