"""Metrics of degradation maps: AP, CC, AUC, KLD, SIM, NSS, IoU, F1, calibration. Pure.

Maps are float (H, W) in [0, 1], larger = worse; a figure that is not defined is nan. Saliency figures follow pysaliency and
RichHF-18K; KLD depends on its EPSILON.
"""

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
    from sklearn.metrics import roc_auc_score

    labels = (target > positive).ravel()
    return float(roc_auc_score(labels, np.ravel(map_))) if 0 < labels.sum() < labels.size else NAN


def average_precision(map_: np.ndarray, target: np.ndarray, positive: float = POSITIVE) -> float:
    """AP of finding target > `positive`; nan if no pixel is positive. A constant map has the share of positive pixels."""
    from sklearn.metrics import average_precision_score

    labels = (target > positive).ravel()
    return float(average_precision_score(labels, np.ravel(map_))) if labels.any() else NAN


def overlap(map_: np.ndarray, target: np.ndarray, threshold: float, positive: float = POSITIVE) -> tuple[float, float]:
    """IoU and F1 of map > `threshold` against target > `positive`; nan if both are empty."""
    found, real = map_ > threshold, target > positive
    both, either = int((found & real).sum()), int((found | real).sum())
    return (both / either, 2 * both / (both + either)) if either else (NAN, NAN)


def map_figures(map_: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Every figure of one predicted map against its target."""
    figures = {
        "mse": float(np.square(map_ - target).mean()), "mean": float(map_.mean()), "cc": correlation(map_, target),
        "kld": kl_divergence(map_, target), "sim": similarity(map_, target), "nss": scanpath_saliency(map_, target),
        "auc": auc_judd(map_, target), "ap": average_precision(map_, target),
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
