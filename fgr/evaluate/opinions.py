"""How well scores agree with people's opinions on a benchmark."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fgr.evaluate.benchmark import Benchmark
from fgr.metrics import intervals as statistics
from fgr.metrics.maps import NAN, correlation, score_figures

RESAMPLES = 500  # of the rank correlations, each a sort


def figures(scores: Mapping[str, np.ndarray], benchmark: Benchmark, lower: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """By scorer: agreement of its scores (N,) of the benchmark's images with people; scores of those in `lower` are negated."""
    signed = {name: -values if name in lower else values for name, values in scores.items()}
    judge: Callable[[np.ndarray, Benchmark], dict[str, Any]] = opinions if benchmark.mos else choices
    return {name: judge(values, benchmark) for name, values in signed.items()}


def opinions(scores: np.ndarray, benchmark: Benchmark) -> dict[str, Any]:
    """SRCC, KRCC, PLCC, plain and after a logistic fit, over all images, SRCC with a 95 % interval; where scenes have several
    images, also the mean SRCC within a scene and the accuracy on the pairs within scenes that people tell apart."""
    truth, names = np.array(benchmark.mos), benchmark.groups
    found: dict[str, Any] = dict(score_figures(scores, truth))
    found["srcc_low"], found["srcc_high"] = _interval(scores, truth, names)
    within: dict[str, list[int]] = {}
    for number, group in enumerate(names):
        within.setdefault(group, []).append(number)
    scenes = {group: numbers for group, numbers in within.items() if len(numbers) > 2}
    if scenes:
        each = [score_figures(scores[numbers], truth[numbers])["srcc"] for numbers in scenes.values()]
        found["srcc_within"] = float(np.nanmean(each)) if np.isfinite(each).any() else NAN
    pairs = [
        (a, b, float(truth[a] > truth[b]), group)
        for group, numbers in within.items()
        for a, b in combinations(numbers, 2)
        if truth[a] != truth[b]
    ]
    return found | (_accuracy(scores, pairs) if pairs else {})


def choices(scores: np.ndarray, benchmark: Benchmark) -> dict[str, Any]:
    """Accuracy on the pairs on which people have a majority; the rest are counted as `ties`."""
    clear = [pair for pair in benchmark.pairs if pair[2] != 0.5]
    return _accuracy(scores, clear) | {"ties": len(benchmark.pairs) - len(clear)}


def _accuracy(scores: np.ndarray, pairs: Sequence[tuple[int, int, float, str]]) -> dict[str, Any]:
    """Share of pairs in people's order, equal scores as half, and its 95 % interval over groups (scenes)."""
    if not pairs:
        return {"accuracy": NAN, "low": NAN, "high": NAN, "pairs": 0}
    difference = np.array([scores[left] - scores[right] for left, right, _, _ in pairs])
    wanted = np.array([1.0 if share > 0.5 else -1.0 for _, _, share, _ in pairs])
    right = (np.sign(difference) * wanted + 1) / 2
    low, high = statistics.interval(right, [group for *_, group in pairs])
    return {"accuracy": float(right.mean()), "low": low, "high": high, "pairs": len(pairs)}


def _interval(scores: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> tuple[float, float]:
    from scipy.stats import rankdata

    groups, index = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    if len(groups) < 3:
        return NAN, NAN
    members = [np.flatnonzero(index == i) for i in range(len(groups))]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([members[i] for i in rng.integers(0, len(groups), len(groups))])
        if np.ptp(scores[chosen]) > 0 and np.ptp(truth[chosen]) > 0:
            drawn.append(correlation(rankdata(scores[chosen]), rankdata(truth[chosen])))
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (NAN, NAN)
    return float(low), float(high)
