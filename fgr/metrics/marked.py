"""Metrics of maps against marked masks: prominence, DeSRA's IoU, precision and recall. Pure.

Maps are float (H, W), larger = worse, on any scale; a figure that is not defined is nan.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.stats import rankdata

from fgr.metrics.intervals import interval, resampled
from fgr.metrics.maps import correlation, detection

NAN = float("nan")
RESAMPLES = 300  # of rank figures, each a sort
BORDER = 5  # pixels that DeSRA's code cuts off each side, where its window of 11 has no room
HALF = 0.5  # share of a component's area from which on it counts as right; share of viewers from which on a mask is prominent
QUANTILES = (0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)


class Overlap(NamedTuple):
    """A binary detection against the marked regions of an image: IoU, and counts of 8-connected components."""

    iou: float
    detected: int
    right: int  # detected components of which at least half of the area is marked
    marked: int
    found: int  # marked components of which at least half of the area is detected


def overlap(detected: np.ndarray, marked: np.ndarray, border: int = BORDER) -> Overlap:
    """Two bool (H, W) arrays as DeSRA's code compares them (Xie et al. 2023), `border` pixels cut off each side first.

    The IoU is nan where neither has a pixel left.
    """
    height, width = marked.shape
    inner = (slice(border, height - border), slice(border, width - border))
    detected, marked = detected[inner], marked[inner]
    either = int((detected | marked).sum())
    iou = int((detected & marked).sum()) / either if either else NAN
    return Overlap(iou, *_covered(detected, marked), *_covered(marked, detected))


def _covered(regions: np.ndarray, by: np.ndarray) -> tuple[int, int]:
    """The 8-connected components of `regions`, and how many lie in `by` with at least half of their area."""
    if not regions.any():
        return 0, 0
    number, labels = cv2.connectedComponents(regions.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel(), minlength=number)[1:]
    inside = np.bincount(labels[by], minlength=number)[1:]
    return number - 1, int((inside >= HALF * areas).sum())


def thresholds(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Thresholds (T,) to try for maps of a kind: quantiles of their values. A binary map has one that keeps it as it is."""
    values = np.concatenate([np.ravel(one)[:: max(1, one.size // 20_000)] for one in maps])
    return np.unique(np.quantile(values, QUANTILES, method="lower"))


def overlaps(map_: np.ndarray, marked: np.ndarray, levels: np.ndarray) -> list[Overlap]:
    """`overlap` of map > t with the bool `marked` (H, W) for each t of `levels`."""
    found: dict[int, Overlap] = {}
    return [
        found[count] if (count := int((map_ > level).sum())) in found else found.setdefault(count, overlap(map_ > level, marked))
        for level in levels
    ]


def region_figures(table: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """IoU (mean over images, with its interval over `groups`), and precision and recall of components (shares of all), of
    `overlaps` (N, T, 5) of N images.

    Each image's threshold is that of the best mean IoU on the other half of the groups, so that no image chose its own.
    """
    if not len(table):
        return {"iou": NAN, "iou_low": NAN, "iou_high": NAN, "precision": NAN, "recall": NAN, "images": 0}
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    chosen = table[np.arange(len(table)), _best_elsewhere(table[..., 0], names % 2)]
    iou, detected, right, marked, found = chosen.T
    kept = np.isfinite(iou)
    low, high = (
        interval(iou[kept], [group for group, good in zip(groups, kept, strict=True) if good]) if kept.any() else (NAN, NAN)
    )
    return {
        "iou": float(iou[kept].mean()) if kept.any() else NAN, "iou_low": low, "iou_high": high,
        "precision": float(right.sum() / detected.sum()) if detected.sum() else NAN,
        "recall": float(found.sum() / marked.sum()) if marked.sum() else NAN, "images": len(table),
    }  # fmt: skip


def _best_elsewhere(iou: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """For each of N images the number of the threshold, of (N, T), with the best mean IoU on the other half."""
    known = np.nan_to_num(iou)
    best = [
        int(known[other].mean(0).argmax()) if (other := halves != half).any() else int(known.mean(0).argmax()) for half in (0, 1)
    ]
    return np.array(best)[halves]


def prominence_figures(pooled: np.ndarray, prominence: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Maps pooled in masks (N,) against the share of viewers (N,) who call each an artifact, with 95 % intervals over `groups`.

    SRCC and PLCC; AP and AUC of finding the masks that at least half of the viewers see. The rest are those fewer see.
    """
    prominent = prominence >= HALF

    def srcc(rows: np.ndarray) -> float:
        return correlation(rankdata(pooled[rows]), rankdata(prominence[rows]))

    def area(rows: np.ndarray) -> float:
        return detection(pooled[rows], [prominent[rows]])[0][1]

    rows = np.arange(len(pooled))
    ranked, plain, seen = (srcc(rows), correlation(pooled, prominence), area(rows)) if len(rows) > 2 else (NAN, NAN, NAN)
    low, high = resampled(srcc, groups, RESAMPLES) if ranked == ranked else (NAN, NAN)
    auc_low, auc_high = resampled(area, groups, RESAMPLES) if seen == seen else (NAN, NAN)
    precision = detection(pooled, [prominent])[0][0] if seen == seen else NAN
    return {
        "masks": len(rows), "prominent": int(prominent.sum()), "srcc": ranked, "srcc_low": low, "srcc_high": high, "plcc": plain,
        "ap": precision, "auc": seen, "auc_low": auc_low, "auc_high": auc_high,
    }  # fmt: skip
