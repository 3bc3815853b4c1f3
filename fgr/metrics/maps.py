"""Metrics of degradation maps: AP, CC, AUC, KLD, SIM, NSS, IoU, F1, calibration. Pure.

Maps are float (H, W) in [0, 1], larger = worse; a figure that is not defined is nan. Saliency figures follow pysaliency and
RichHF-18K; KLD depends on its EPSILON.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

EPSILON = 2.2204e-16  # of the saliency benchmark's KL divergence
POSITIVE = 0.1  # a pixel whose target is above this counts as an artifact in AP, AUC, NSS, IoU and F1
NAN = float("nan")


def correlation(map_: np.ndarray, target: np.ndarray) -> float:
    """CC: Pearson correlation of two maps or vectors; nan if either is constant."""
    a, b = np.ravel(map_).astype(np.float64), np.ravel(target).astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 1e-12 else NAN


def kl_divergence(map_: np.ndarray, target: np.ndarray) -> float:
    """KLD: KL(target ‖ map) of maps normalised to sum 1; nan if the target is empty."""
    if not target.any():
        return NAN
    p, q = _normalised(target), _normalised(map_)
    return float((p * np.log(EPSILON + p / (q + EPSILON))).sum())


def similarity(map_: np.ndarray, target: np.ndarray) -> float:
    """SIM: sum of minima of maps normalised to sum 1; nan if the target is empty."""
    return float(np.minimum(_normalised(map_), _normalised(target)).sum()) if target.any() else NAN


def scanpath_saliency(map_: np.ndarray, target: np.ndarray, positive: float = POSITIVE) -> float:
    """NSS: mean z-score of the map where the target exceeds `positive`; nan if it nowhere does or the map is constant."""
    inside, spread = target > positive, map_.std()
    return float((map_[inside].mean() - map_.mean()) / spread) if inside.any() and spread > 1e-12 else NAN


def auc_judd(map_: np.ndarray, target: np.ndarray, positive: float = POSITIVE) -> float:
    """Area under the ROC curve of finding target > `positive`; ties count half; nan if all or no pixels are positive."""
    return detection(map_, [target > positive])[0][1]


def average_precision(map_: np.ndarray, target: np.ndarray, positive: float = POSITIVE) -> float:
    """AP of finding target > `positive`; nan if no pixel is positive. A constant map has the share of positive pixels."""
    return detection(map_, [target > positive])[0][0]


def detection(map_: np.ndarray, classes: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """AP and AUC of finding the true pixels of each of one or two bool arrays (H, W), all by one sort of the map.

    As scikit-learn defines them: precision summed over the steps of recall at distinct values; ties count half in the AUC.
    nan where they are not defined: AP without positive pixels, AUC without pixels of both kinds.
    """
    number, positives = _above_thresholds(np.ravel(map_), [np.ravel(one) for one in classes])
    found = []
    for right in positives:
        total, wrong = int(right[-1]), number - right
        steps, false_steps = np.diff(right, prepend=0), np.diff(wrong, prepend=0)
        precision = float((steps * (right / number)).sum() / total) if total else NAN
        area = float((false_steps * (right - steps / 2)).sum() / (total * wrong[-1])) if total and wrong[-1] else NAN
        found.append((precision, area))
    return found


def _above_thresholds(values: np.ndarray, classes: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """How many values lie at or above each distinct one, the largest first, and how many of those are of each class.

    float32 values in [0, 2) keep their order as integers and leave two bits free: with the classes in these, sorting plain
    numbers does what sorting indices does in a third of the time.
    """
    if values.dtype == np.float32 and values.min() >= 0 and values.max() < 2:
        keys = np.abs(values).view(np.uint32) << 2  # the magnitude of -0.0 is 0
        for bit, one in enumerate(classes):
            keys |= one.astype(np.uint32) << bit
        keys = np.sort(keys)[::-1]
        ordered, labels = keys >> 2, [(keys >> bit) & 1 for bit in range(len(classes))]
    else:
        order = np.argsort(values)[::-1]
        ordered, labels = values[order], [one[order] for one in classes]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return last + 1, [np.cumsum(one, dtype=np.int64)[last] for one in labels]


def overlap(map_: np.ndarray, target: np.ndarray, threshold: float, positive: float = POSITIVE) -> tuple[float, float]:
    """IoU and F1 of map > `threshold` against target > `positive`; nan if both are empty."""
    found, real = map_ > threshold, target > positive
    both, either = int((found & real).sum()), int((found | real).sum())
    return (both / either, 2 * both / (both + either)) if either else (NAN, NAN)


def map_figures(map_: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """Every figure of one predicted map against its target; `ap_mask` is the AP of finding the bool `mask` (H, W) instead of
    target > POSITIVE, nan without one and where all or no pixels are in it."""
    masked = mask if mask is not None and not mask.all() else np.zeros(map_.shape, bool)
    (precision, area), (in_mask, _) = detection(map_, [target > POSITIVE, masked])
    figures = {
        "mse": float(np.square(map_ - target).mean()), "mean": float(map_.mean()), "cc": correlation(map_, target),
        "kld": kl_divergence(map_, target), "sim": similarity(map_, target), "nss": scanpath_saliency(map_, target),
        "auc": area, "ap": precision, "ap_mask": in_mask,
    }  # fmt: skip
    for threshold in (0.1, 0.25, 0.5):
        figures[f"iou@{threshold}"], figures[f"f1@{threshold}"] = overlap(map_, target, threshold)
    return figures


def reliability(map_: np.ndarray, target: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Calibration of map values: per bin of the predicted value its share of pixels, mean prediction and mean target, and the
    expected calibration error (mean |prediction − target| over bins, weighted by pixels)."""
    values, truth = np.ravel(map_), np.ravel(target)
    index = np.minimum((values * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=x, minlength=bins) for x in (values, truth)]
    predicted, observed = (np.divide(x, counts, out=np.full(bins, np.nan), where=counts > 0) for x in sums)
    error = float(np.nansum(counts * np.abs(predicted - observed)) / max(values.size, 1))
    shares = counts / max(values.size, 1)
    return {"share": shares.tolist(), "predicted": predicted.tolist(), "observed": observed.tolist(), "ece": error}


def _normalised(map_: np.ndarray) -> np.ndarray:
    total = float(map_.sum(dtype=np.float64))
    return map_ / total if total > 1e-12 else np.full(map_.shape, 1 / map_.size)
