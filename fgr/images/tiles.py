"""Running a network over an image tile by tile: overlapping tiles, discarded margins, blended seams.

Neighbouring tiles share at least `overlap` low-resolution pixels. In the middle of the shared strip lies a blend of
`overlap // 4` pixels; what a tile has beyond it is computed and thrown away, for there the tile's edge is felt. A network
whose output pixel sees R input pixels to each side therefore gives the untiled output wherever

    overlap − overlap // 4 ≥ 2·R          (a plain stack of n 3×3 convolutions has R = n)

For deeper networks a tiled image is another image, without a visible seam.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Network = Callable[[np.ndarray], np.ndarray]  # uint8 (n, h, w, 3) → float32 (n, h·scale, w·scale, 3), nominally in [0, 1]


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a tile, in input pixels: it covers start…stop and contributes keep_start…keep_stop.

    The first `fade_in` and the last `fade_out` kept pixels are blended with the neighbours' pixels.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    fade_in: int
    fade_out: int


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """As few tiles of `tile` pixels over `length` as share `overlap` or more, evenly spread; 0 = one tile for all.

    Where tiles do not divide `length` they share more: for deep networks what that costs in time it gains in fidelity.
    ValueError unless tile ≥ 2·overlap.
    """
    if tile == 0 or length <= tile:
        return [Span(0, length, 0, length, 0, 0)]
    if tile < 2 * overlap or overlap < 0:
        raise ValueError(f"a tile of {tile} pixels is too small for an overlap of {overlap}")
    number = 1 - (tile - length) // (tile - overlap)
    starts = [(length - tile) * i // (number - 1) for i in range(number)]
    fade = overlap // 4
    seams = [right + (left + tile - right - fade) // 2 for left, right in pairwise(starts)]
    return [
        Span(
            start, start + tile,
            keep_start=seams[i - 1] if i else 0, keep_stop=seams[i] + fade if i < number - 1 else length,
            fade_in=fade if i else 0, fade_out=fade if i < number - 1 else 0,
        )
        for i, start in enumerate(starts)
    ]  # fmt: skip


def upscale(image: np.ndarray, network: Network, scale: int, tile: int, overlap: int, batch: int = 1) -> np.ndarray:
    """`network` applied to `image`, uint8 (h, w, 3), by tiles, `batch` at a time: uint8 (h·scale, w·scale, 3).

    One row of tiles is held in float32 at a time, so memory beyond the output grows with tile · w, not with h · w.
    """
    height, width = image.shape[:2]
    result = np.empty((height * scale, width * scale, 3), np.uint8)
    columns = spans(width, tile, overlap)
    pending = np.empty((0, 0, 3), np.float32)
    for row in spans(height, tile, overlap):
        band = _band(image, network, scale, row, columns, batch)
        fade_in, fade_out = row.fade_in * scale, row.fade_out * scale
        if fade_in:
            band[:fade_in] *= _ramp(fade_in)[:, None, None]
            band[:fade_in] += pending
        whole = len(band) - fade_out
        pending = band[whole:] * (1 - _ramp(fade_out))[:, None, None]
        top = row.keep_start * scale
        result[top : top + whole] = quantised(band[:whole])
    return result


def quantised(values: np.ndarray) -> np.ndarray:
    """Float32 values, nominally in [0, 1], as uint8 of the same shape; overwrites `values`."""
    np.clip(values, 0, 1, out=values)
    values *= 255
    return np.rint(values, out=values).astype(np.uint8)


def _band(image: np.ndarray, network: Network, scale: int, row: Span, columns: Sequence[Span], batch: int) -> np.ndarray:
    rows = slice((row.keep_start - row.start) * scale, (row.keep_stop - row.start) * scale)
    band = np.zeros((rows.stop - rows.start, image.shape[1] * scale, 3), np.float32)
    for part in _batches(columns, batch):
        outputs = network(np.stack([image[row.start : row.stop, one.start : one.stop] for one in part]))
        for one, output in zip(part, outputs, strict=True):
            piece = output[rows, (one.keep_start - one.start) * scale : (one.keep_stop - one.start) * scale]
            fade_in, fade_out = one.fade_in * scale, one.fade_out * scale
            piece[:, :fade_in] *= _ramp(fade_in)[:, None]
            piece[:, piece.shape[1] - fade_out :] *= (1 - _ramp(fade_out))[:, None]
            band[:, one.keep_start * scale : one.keep_stop * scale] += piece
    return band


def _batches(columns: Sequence[Span], batch: int) -> Iterator[Sequence[Span]]:
    for start in range(0, len(columns), batch):
        yield columns[start : start + batch]


def _ramp(length: int) -> np.ndarray:
    """Weights of the tile that comes in, rising from 0 to 1: float32 (length,)."""
    return ((np.arange(length) + 0.5) / max(length, 1)).astype(np.float32)
