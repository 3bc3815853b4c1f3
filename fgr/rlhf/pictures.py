"""Pictures of a run: a sheet at each audit, and pairs before and after for the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fgr import atomic
from fgr.images import codec
from fgr.images.arrays import as_images
from fgr.reward.score import overlay, score
from fgr.rlhf.inputs import ImagePair

GAP = 4  # white pixels between pictures
GAIN = 8  # that differences are multiplied by


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How two uint8 (H, W, 3) images differ, GAIN-fold about mid-grey: uint8 (H, W, 3)."""
    return np.clip(128 + GAIN * (after.astype(np.int16) - before.astype(np.int16)), 0, 255).astype(np.uint8)


def views(model: Any, pair: ImagePair, before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """The pictures of one image: low-resolution input (enlarged), reference if there is one, before, after, difference, and the
    maps that `model` (None: no maps) gives before and after."""
    size = before.shape[1], before.shape[0]
    found = {"input": cv2.resize(pair[0], size, interpolation=cv2.INTER_NEAREST)}
    found |= {"reference": pair[1]} if len(pair) > 1 else {}
    found |= {"before": before, "after": after, "difference": difference(before, after)}
    if model is not None:
        found |= {f"map_{name}": overlay(image, score(model, image)[1]) for name, image in (("before", before), ("after", after))}
    return found


def write_sheet(path: Path, model: Any, pairs: Sequence[ImagePair], before: torch.Tensor, after: torch.Tensor) -> None:
    """One picture with a row an image, as `views` has them; `before` and `after` are (n, 3, H, W) in [0, 1]."""
    rows = []
    for pair, first, second in zip(pairs, as_images(before), as_images(after), strict=False):
        cells = list(views(model, pair, first, second).values())
        rows.append(
            np.concatenate([cv2.copyMakeBorder(cell, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3) for cell in cells], 1)
        )
    if rows:
        atomic.write_bytes(path, codec.encode_rgb(np.concatenate(rows)))


def write_examples(
    folder: Path, model: Any, pairs: Sequence[ImagePair], before: torch.Tensor, after: torch.Tensor
) -> list[list[str]]:
    """Each image's pictures as `I-NAME.webp` in `folder`; their names by image."""
    written: list[list[str]] = []
    for number, (pair, first, second) in enumerate(zip(pairs, as_images(before), as_images(after), strict=False)):
        found = views(model, pair, first, second)
        for name, image in found.items():
            atomic.write_bytes(folder / f"{number}-{name}.webp", codec.encode_rgb(image))
        written.append(list(found))
    return written
