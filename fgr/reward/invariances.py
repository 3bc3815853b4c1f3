"""What score and map should not depend on: a shift by a pixel, mirroring, crop, tile and batch."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from fgr.metrics.intervals import ratio, summary
from fgr.reward.planted_probe import Judge

Judged = tuple[float, np.ndarray]
Variant = Callable[[Judge, np.ndarray], tuple[Judged, Judged]]  # the same place of an image, judged in two ways
MARGIN = 8  # pixels cut off before an image is shifted


def invariances(
    judge: Judge, tiled: Judge, images: Sequence[np.ndarray], photographs: Sequence[str], gap: np.ndarray
) -> dict[str, Any]:
    """By variant: `score`, the mean absolute change in units of the mean `gap` (N,) of the score; `map`, the mean absolute change
    of the map; both with intervals; `worst`, the largest change of any pixel of a map.

    `judge` judges a batch together, and a single image as a whole; `tiled` does it in tiles smaller than the images.
    """
    pairs = {name: [variant(judge, image) for image in images] for name, variant in VARIANTS.items()}
    alone = [_one(judge, image) for image in images]
    pairs["tile"] = [(one, _one(tiled, image)) for one, image in zip(alone, images, strict=True)]
    pairs["batch"] = list(zip(alone, judge(images), strict=True))
    return {name: _compared(found, photographs, gap) for name, found in pairs.items()}


def _compared(found: Sequence[tuple[Judged, Judged]], photographs: Sequence[str], gap: np.ndarray) -> dict[str, Any]:
    scores = np.array([abs(one[0] - other[0]) for one, other in found])
    maps = [np.abs(one[1] - other[1]) for one, other in found]
    in_gaps = ratio(scores, gap, photographs)
    return {
        "score": {"gaps": in_gaps["value"], "low": in_gaps["low"], "high": in_gaps["high"]},
        "map": summary(np.array([float(map_.mean()) for map_ in maps]), photographs),
        "worst": max(float(map_.max()) for map_ in maps),
    }


def _shift(judge: Judge, image: np.ndarray) -> tuple[Judged, Judged]:
    """Down and right by a pixel, other pixels coming in at the border."""
    inner = image[MARGIN:-MARGIN, MARGIN:-MARGIN]
    moved = image[MARGIN - 1 : -MARGIN - 1, MARGIN - 1 : -MARGIN - 1]
    (score, map_), (moved_score, moved_map) = _one(judge, inner), _one(judge, moved)
    return (score, map_[:-1, :-1]), (moved_score, moved_map[1:, 1:])


def _flip(judge: Judge, image: np.ndarray) -> tuple[Judged, Judged]:
    score, map_ = _one(judge, image[:, ::-1])
    return _one(judge, image), (score, map_[:, ::-1])


def _crop(judge: Judge, image: np.ndarray) -> tuple[Judged, Judged]:
    """The image's four quarters, each judged by itself: the mean of their scores, and their maps side by side."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    map_, scores = np.zeros((height, width), np.float32), []
    for rows, columns in product(_halves(height), _halves(width)):
        score, map_[rows, columns] = _one(judge, image[rows, columns])
        scores.append(score)
    return _one(judge, image[:height, :width]), (float(np.mean(scores)), map_)


def _halves(side: int) -> tuple[slice, slice]:
    return slice(0, side // 2), slice(side // 2, side)


def _one(judge: Judge, image: np.ndarray) -> Judged:
    return next(iter(judge([np.ascontiguousarray(image)])))


VARIANTS: dict[str, Variant] = {"shift": _shift, "flip": _flip, "crop": _crop}
