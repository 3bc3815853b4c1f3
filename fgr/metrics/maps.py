"""Metrics of degradation maps and of scores; nan where one is not defined. Pure.

Maps are float (H, W) in [0, 1], larger = worse. Saliency figures follow pysaliency and RichHF-18K; KLD depends on its EPSILON.
"""

from collections.abc import Mapping
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
    from scipy.stats import rankdata

    labels = (target > positive).ravel()
    count = int(labels.sum())
    if not 0 < count < labels.size:
        return NAN
    ranks = rankdata(np.ravel(map_))
    return float((ranks[labels].sum() - count * (count + 1) / 2) / (count * (labels.size - count)))


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


def score_figures(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """SRCC, KRCC and PLCC (plain, and after the usual four-parameter logistic fit) of scores (N,) against `truth` (N,)."""
    from scipy.stats import kendalltau, spearmanr

    if len(score) < 3 or np.ptp(score) < 1e-12 or np.ptp(truth) < 1e-12:
        return dict.fromkeys(("srcc", "krcc", "plcc", "plcc_logistic"), NAN)
    return {
        "srcc": float(spearmanr(score, truth).statistic),
        "krcc": float(kendalltau(score, truth).statistic),
        "plcc": correlation(score, truth),
        "plcc_logistic": correlation(fitted(score, truth), truth),
    }


def fitted(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Scores mapped onto the scale of `truth` by a four-parameter logistic; the scores themselves if the fit fails."""
    import warnings

    from scipy.optimize import OptimizeWarning, curve_fit
    from scipy.special import expit

    def logistic(x: np.ndarray, top: float, bottom: float, middle: float, slope: float) -> np.ndarray:
        return (top - bottom) * expit((x - middle) / (abs(slope) + 1e-9)) + bottom

    start = [truth.max(), truth.min(), score.mean(), score.std() / 4]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            parameters, _ = curve_fit(logistic, score, truth, p0=start, maxfev=5000)
    except (RuntimeError, TypeError):
        return score
    return logistic(score, *parameters)


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % Wilson interval of a share; (nan, nan) of nothing."""
    if not total:
        return NAN, NAN
    z, share = 1.959964, right / total
    centre = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float((centre - half) / (1 + z * z / total)), float((centre + half) / (1 + z * z / total))


def accuracy(right: np.ndarray) -> dict[str, float]:
    """Share of true entries of a bool (N,) array, its 95 % interval and N."""
    low, high = wilson(int(right.sum()), len(right))
    return {"accuracy": float(right.mean()) if len(right) else NAN, "low": low, "high": high, "n": len(right)}


def triplets(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which triplets are in order, S_SR < S_syn < S_GT, from the arrays (N,) `sr`, `composite` and `reference`."""
    return (scores["sr"] < scores["composite"]) & (scores["composite"] < scores["reference"])


def _normalised(map_: np.ndarray) -> np.ndarray:
    total = float(map_.sum(dtype=np.float64))
    return map_ / total if total > 1e-12 else np.full(map_.shape, 1 / map_.size)
