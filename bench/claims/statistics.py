"""Intervals, tests, power and curves. Pure: numbers in, numbers out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Effect:
    """An estimate with its 95 % interval from `n` reward models, and `p`, one-sided, that it is not above 0; nan: too few."""

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan


NONE = Effect(math.nan, math.nan, math.nan, 0)


def crossed(values: np.ndarray, resamples: int) -> Effect:
    """The mean of `values` (reward models, photographs), both of which are samples: each is drawn anew, for itself.

    At each end the wider of that and Student's t over either alone, since few make the bootstrap too sure; p is the largest.
    """
    units, photographs = values.shape
    if units < 2 or photographs < 2:
        return Effect(float(values.mean()) if values.size else math.nan, math.nan, math.nan, units)
    rng = np.random.default_rng(0)
    drawn = [rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in (units, photographs)]
    means = np.einsum("ru,up,rp->r", drawn[0], values, drawn[1], optimize=True)
    ends = [_t_interval(values.mean(axis)) for axis in (1, 0)]
    low, high = np.quantile(means, [0.025, 0.975])
    p = max(_bootstrap_p(means), *(_t_p(values.mean(axis)) for axis in (1, 0)))
    return Effect(float(values.mean()), min(low, *(end[0] for end in ends)), max(high, *(end[1] for end in ends)), units, p)


def over_units(values: Sequence[float], resamples: int) -> Effect:
    """The mean over reward models; at each end the wider of bootstrap and Student's t."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return Effect(float(found[0]) if len(found) else math.nan, math.nan, math.nan, len(found))
    drawn = np.random.default_rng(0).integers(0, len(found), (resamples, len(found)))
    low, high = np.quantile(found[drawn].mean(1), [0.025, 0.975])
    t_low, t_high = _t_interval(found)
    return Effect(float(found.mean()), min(float(low), t_low), max(float(high), t_high), len(found), _t_p(found))


def ratio(over: Sequence[float], under: Sequence[float], resamples: int) -> Effect:
    """Geometric mean of paired ratios; p that it is not above 1."""
    found = over_units(np.log(np.asarray(over) / np.asarray(under)).tolist(), resamples)
    return Effect(math.exp(found.value), math.exp(found.low), math.exp(found.high), found.n, found.p)


def power(effect: float, spread: float, units: int, alpha: float) -> float:
    """Power of the two-sided one-sample t test to find a mean of `effect` among `units` of this standard deviation."""
    if units < 2 or not spread > 0:
        return math.nan
    shift, edge = effect * math.sqrt(units) / spread, float(stats.t.ppf(1 - alpha / 2, units - 1))
    return float(stats.nct.sf(edge, units - 1, shift) + stats.nct.cdf(-edge, units - 1, shift))


def sign_test(more: int, less: int) -> float:
    """p, one-sided, that something happens more often on the first side than on the second, of pairs where it happens on one."""
    return float(stats.binomtest(more, more + less, alternative="greater").pvalue) if more + less else 1.0


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p values; nan counts as 1."""
    found, largest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(ps.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])):
        largest = max(largest, min(1.0, (len(ps) - rank) * (1.0 if math.isnan(p) else p)))
        found[name] = largest
    return {name: found[name] for name in ps}


def instability(curve: Sequence[float]) -> float:
    """Standard deviation about 0 of second differences, over √6; nan for fewer than two of them.

    A straight line has 0, however steep; independent noise its own standard deviation.
    """
    changes = np.diff(np.asarray(curve, float), 2)
    return float(np.sqrt(np.square(changes).mean() / 6)) if len(changes) > 1 else math.nan


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def _t_p(values: np.ndarray) -> float:
    if float(values.std()) < 1e-12:
        return 0.0 if float(values.mean()) > 0 else 1.0
    return float(stats.ttest_1samp(values, 0, alternative="greater").pvalue)


def _bootstrap_p(means: np.ndarray) -> float:
    return (1 + int((means <= 0).sum())) / (len(means) + 1)
