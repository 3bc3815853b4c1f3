"""Bootstrap intervals of means, Wilson's of shares, and two systems compared in pairs. Pure.

Images of one photograph are no independent evidence: photographs, not images, are drawn again (cluster bootstrap).
"""

from collections.abc import Sequence

import numpy as np

NAN = float("nan")
RESAMPLES = 2000
TIE = 1e-9  # differences up to this are ties


def summary(values: np.ndarray, groups: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Mean of `values` (N,) and its 95 % percentile interval over `groups` (the photograph of each); what is not finite is left
    out and counted in `left_out`."""
    finite = np.isfinite(values)
    kept = values[finite]
    low, high = interval(kept, [group for group, good in zip(groups, finite, strict=True) if good], seed)
    mean = float(kept.mean()) if len(kept) else NAN
    return {"mean": mean, "low": low, "high": high, "n": len(kept), "left_out": int((~finite).sum())}


def interval(values: np.ndarray, groups: Sequence[str] | None = None, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` (N,), groups drawn with replacement; without `groups` each value is its
    own. (nan, nan) for fewer than two groups."""
    names = np.arange(len(values)) if groups is None else np.asarray(groups, dtype=str)
    index = np.unique(names, return_inverse=True)[1]
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    if len(counts) < 2:
        return NAN, NAN
    drawn = np.random.default_rng(seed).integers(0, len(counts), (RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share; (nan, nan) of nothing."""
    from scipy.stats import binomtest

    if not total:
        return NAN, NAN
    low, high = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


def accuracy(right: np.ndarray) -> dict[str, float]:
    """Share of true entries of a bool (N,) array, its 95 % Wilson interval and N."""
    low, high = wilson(int(right.sum()), len(right))
    return {"accuracy": float(right.mean()) if len(right) else NAN, "low": low, "high": high, "n": len(right)}


def paired(a: np.ndarray, b: np.ndarray, groups: Sequence[str], lower_is_better: bool, seed: int = 0) -> dict[str, float]:
    """System `a` against `b` on the same images: mean difference a − b with its interval; how often `a` is better, ties as half,
    with its interval: Wilson's if every photograph has one image, bootstrapped otherwise. Pairs that are not finite are left out.
    """
    finite = np.isfinite(a) & np.isfinite(b)
    kept = [group for group, good in zip(groups, finite, strict=True) if good]
    difference = a[finite] - b[finite]
    better = np.where(np.abs(difference) <= TIE, 0.5, (difference < 0) == lower_is_better)
    low, high = interval(difference, kept, seed)
    win_low, win_high = _win_interval(better, kept, seed)
    return {
        "difference": float(difference.mean()) if len(kept) else NAN, "low": low, "high": high,
        "win_rate": float(better.mean()) if len(kept) else NAN, "win_low": win_low, "win_high": win_high,
        "ties": int((better == 0.5).sum()), "n": len(kept),
    }  # fmt: skip


def _win_interval(better: np.ndarray, groups: Sequence[str], seed: int) -> tuple[float, float]:
    if len(set(groups)) == len(groups):
        return wilson(round(float(better.sum())), len(better))
    return interval(better.astype(float), groups, seed)
