"""Bootstrap intervals of means, Wilson's of shares, and two systems compared in pairs. Pure.

Images of one photograph are no independent evidence: photographs, not images, are drawn again (cluster bootstrap).
"""

from collections.abc import Callable, Sequence

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
    index = _numbered(values, groups)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    if len(counts) < 2:
        return NAN, NAN
    drawn = _drawn(len(counts), seed)
    return _percentiles(sums[drawn].sum(1) / counts[drawn].sum(1))


def ratio(over: np.ndarray, under: np.ndarray, groups: Sequence[str] | None = None, seed: int = 0) -> dict[str, float]:
    """mean(`over`) / mean(`under`) of paired values (N,) as `value`, and its 95 % percentile interval `low`, `high`: a change in
    units of another. Both means are of the same groups in each draw.

    nan for fewer than two groups, and where `under` is not told apart from 0 (in over 2.5 % of the draws its mean is 0 or has
    the other sign): the interval of such a ratio has no ends. ValueError: arrays that are not paired.
    """
    if over.shape != under.shape or over.ndim != 1:
        raise ValueError(f"expected paired values, got {over.shape} and {under.shape}")
    below = float(under.mean()) if len(under) else 0.0
    value = float(over.mean()) / below if below else NAN
    index = _numbered(over, groups)
    tops, bottoms = np.bincount(index, weights=over), np.bincount(index, weights=under)
    if len(tops) < 2 or not below:
        return {"value": value, "low": NAN, "high": NAN}
    drawn = _drawn(len(tops), seed)
    dividends, divisors = tops[drawn].sum(1), bottoms[drawn].sum(1)
    same = divisors * below > 0
    low, high = _percentiles(dividends[same] / divisors[same]) if same.mean() >= 0.975 else (NAN, NAN)
    return {"value": value, "low": low, "high": high}


def resampled(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of any statistic: `statistic` gets the row numbers of the groups that were drawn, with
    repetition. Draws in which it is not finite are left out; (nan, nan) for fewer than two groups, or if none is left."""
    index = _numbered(np.asarray(groups), groups)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return NAN, NAN
    members = [np.flatnonzero(index == number) for number in range(count)]
    rng = np.random.default_rng(seed)
    values = [statistic(np.concatenate([members[i] for i in rng.integers(0, count, count)])) for _ in range(resamples)]
    finite = [value for value in values if np.isfinite(value)]
    return _percentiles(np.array(finite)) if finite else (NAN, NAN)


def _numbered(values: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Each value's group as a number from 0."""
    names = np.arange(len(values)) if groups is None else np.asarray(groups, dtype=str)
    return np.unique(names, return_inverse=True)[1]


def _drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share; (nan, nan) of nothing."""
    from scipy.stats import binomtest

    if not total:
        return NAN, NAN
    low, high = binomtest(right, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(low), float(high)


def accuracy(right: np.ndarray, groups: Sequence[str] | None = None, seed: int = 0) -> dict[str, float]:
    """Share of true entries of a bool (N,) array, its 95 % interval and N.

    The interval is Wilson's where every entry is its own group, otherwise the bootstrap's over groups. Where all entries are the
    same, which would leave the bootstrap without doubt, it is Wilson's of as many entries as there are groups.
    """
    index = _numbered(right, groups)
    count = int(index.max()) + 1 if len(index) else 0
    if count == len(right):
        low, high = wilson(int(right.sum()), len(right))
    elif right.all() or not right.any():
        low, high = wilson(count if right.all() else 0, count)
    else:
        low, high = interval(right.astype(float), groups, seed)
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
