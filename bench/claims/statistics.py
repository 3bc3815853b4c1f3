"""Intervals, tests and curves. Pure: numbers in, numbers out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval from `n` units; nan where there are too few."""

    value: float
    low: float
    high: float
    n: int


def over_groups(values: Sequence[float], groups: Sequence[str], resamples: int) -> Interval:
    """Mean, and percentile interval with the groups (photographs) drawn anew."""
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return Interval(float(np.mean(values)) if len(values) else math.nan, math.nan, math.nan, len(names))
    sums, counts = np.bincount(index, weights=np.asarray(values, float)), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(names), (resamples, len(names)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return Interval(float(np.mean(values)), float(low), float(high), len(names))


def over_seeds(values: Sequence[float], resamples: int) -> Interval:
    """Mean, and at each end the wider of percentile bootstrap and Student's t: few units make the bootstrap too sure."""
    many = len(values)
    if many < 2:
        return Interval(float(values[0]) if many else math.nan, math.nan, math.nan, many)
    drawn = over_groups(values, [str(number) for number in range(many)], resamples)
    half = float(stats.t.ppf(0.975, many - 1)) * float(np.std(values, ddof=1)) / math.sqrt(many)
    return Interval(drawn.value, min(drawn.low, drawn.value - half), max(drawn.high, drawn.value + half), many)


def ratio(over: Sequence[float], under: Sequence[float], resamples: int) -> Interval:
    """Geometric mean of paired ratios with its interval over seeds."""
    found = over_seeds(np.log(np.asarray(over) / np.asarray(under)).tolist(), resamples)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n)


def power(values: Sequence[float], effect: float, alpha: float) -> float:
    """Power of the two-sided one-sample t test to find a mean of `effect` with the spread and the number of `values`."""
    many, spread = len(values), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if many < 2 or spread == 0:
        return math.nan
    shift, edge = effect * math.sqrt(many) / spread, float(stats.t.ppf(1 - alpha / 2, many - 1))
    return float(stats.nct.sf(edge, many - 1, shift) + stats.nct.cdf(-edge, many - 1, shift))


def below_zero(values: Sequence[float]) -> float:
    """p of the one-sided t test that the mean is below 0; 1 where there is nothing to test."""
    if len(values) < 2 or np.std(values) == 0:
        return 0.0 if len(values) > 1 and float(np.mean(values)) < 0 else 1.0
    return float(stats.ttest_1samp(values, 0, alternative="less").pvalue)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p values."""
    found, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(ps) - rank) * p))
        found[name] = largest
    return {name: found[name] for name in ps}


def instability(curve: Sequence[float]) -> float:
    """Standard deviation of the first differences in the second half; nan for fewer than two of them."""
    changes = np.diff(np.asarray(curve, float)[len(curve) // 2 :])
    return float(changes.std(ddof=1)) if len(changes) > 1 else math.nan


def drawdown(curve: Sequence[float]) -> float:
    """The deepest fall from the best value so far."""
    values = np.asarray(curve, float)
    return float((np.maximum.accumulate(values) - values).max())


def at_distance(distances: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """The value where the distance first reaches `wanted`, between steps interpolated; the last one if it never does."""
    for at in range(1, len(distances)):
        before, after = distances[at - 1], distances[at]
        if after >= wanted:
            share = (wanted - before) / (after - before) if after > before else 1.0
            return values[at - 1] + min(max(share, 0.0), 1.0) * (values[at] - values[at - 1])
    return values[-1]


def rises(values: Sequence[float]) -> bool:
    """Whether each value is above the one before."""
    return all(after > before for before, after in pairwise(values))
