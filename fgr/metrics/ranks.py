"""Metrics of scores: SRCC, KRCC, PLCC, accuracy on pairs, triplets in order. Pure.

Scores are (N,), an image each, larger = better, held against labels or people's opinions; a figure that is not defined is nan.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, groupby
from math import comb
from typing import Any

import numpy as np

from fgr.metrics.intervals import interval, ratio, resampled
from fgr.metrics.maps import correlation

NAN = float("nan")
RESAMPLES = 500  # of the rank correlations, each a sort
RatedPair = tuple[int, int, float, str]  # numbers of the left and the right image, share of people for the left, group


def score_figures(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """SRCC, KRCC and PLCC (plain, and after the usual four-parameter logistic fit) of scores (N,) against `truth` (N,)."""
    from scipy.stats import kendalltau, spearmanr

    if len(score) < 3 or np.ptp(score) < 1e-12 or np.ptp(truth) < 1e-12:
        return dict.fromkeys(("srcc", "krcc", "plcc", "plcc_logistic"), NAN)
    return {
        "srcc": float(spearmanr(score, truth).statistic),
        "krcc": float(kendalltau(score, truth).statistic),
        "plcc": correlation(score, truth),
        "plcc_logistic": correlation(logistic_fit(score, truth), truth),
    }


def logistic_fit(score: np.ndarray, truth: np.ndarray) -> np.ndarray:
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


def triplets_in_order(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which triplets are in order, S_SR < S_syn < S_GT, from the arrays (N,) `sr`, `composite` and `reference`."""
    return (scores["sr"] < scores["composite"]) & (scores["composite"] < scores["reference"])


def opinion_figures(scores: np.ndarray, mos: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Scores against people's mean opinions (N,) of images of scenes (`groups`).

    SRCC, KRCC, PLCC, plain and after a logistic fit, over all images, SRCC with a 95 % interval; where scenes have several
    images, also the mean SRCC within a scene and the accuracy on the pairs within scenes that people tell apart.
    """
    found: dict[str, Any] = dict(score_figures(scores, mos))
    found["srcc_low"], found["srcc_high"] = _srcc_interval(scores, mos, groups)
    within: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        within.setdefault(group, []).append(number)
    scenes = {group: numbers for group, numbers in within.items() if len(numbers) > 2}
    if scenes:
        each = [score_figures(scores[numbers], mos[numbers])["srcc"] for numbers in scenes.values()]
        found["srcc_within"] = float(np.nanmean(each)) if np.isfinite(each).any() else NAN
    pairs = [
        (a, b, float(mos[a] > mos[b]), group)
        for group, numbers in within.items()
        for a, b in combinations(numbers, 2)
        if mos[a] != mos[b]
    ]
    return found | (pair_accuracy(scores, pairs) if pairs else {})


def choice_figures(scores: np.ndarray, pairs: Sequence[RatedPair]) -> dict[str, Any]:
    """Accuracy on the pairs on which people have a majority; the rest are counted as `ties`."""
    clear = [pair for pair in pairs if pair[2] != 0.5]
    return pair_accuracy(scores, clear) | {"ties": len(pairs) - len(clear)}


def pair_accuracy(scores: np.ndarray, pairs: Sequence[RatedPair]) -> dict[str, Any]:
    """Share of pairs in people's order, equal scores as half, and its 95 % interval over groups (scenes)."""
    if not pairs:
        return {"accuracy": NAN, "low": NAN, "high": NAN, "pairs": 0}
    difference = np.array([scores[left] - scores[right] for left, right, _, _ in pairs])
    wanted = np.array([1.0 if share > 0.5 else -1.0 for _, _, share, _ in pairs])
    right = (np.sign(difference) * wanted + 1) / 2
    low, high = interval(right, [group for *_, group in pairs])
    return {"accuracy": float(right.mean()), "low": low, "high": high, "pairs": len(pairs)}


def best_of(scores: np.ndarray, opinions: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """What choosing the best-scored of a group's images is worth by people's opinions (N,), over a choice at random.

    `gain` and `possible`, the gain of people's own choice, in units of opinions, means over the `groups` of two images and more;
    `share` of the one in the other, with its 95 % interval over groups; `first`: share of groups whose best-scored image is one
    that people put first; `by_count`: the expected gain among n of a group's images, n = 2, 3 …. Equal scores share a place.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    several = {group: np.array(numbers) for group, numbers in members.items() if len(numbers) > 1}
    if not several:
        return {}
    ordered = [_by_score(scores[numbers], opinions[numbers]) for numbers in several.values()]
    gains = np.array([expected[0] - expected.mean() for expected in ordered])
    possible = np.array([opinions[numbers].max() - opinions[numbers].mean() for numbers in several.values()])
    share = ratio(gains, possible, list(several))
    first = [
        float(np.isclose(expected[0], opinions[numbers].max()))
        for expected, numbers in zip(ordered, several.values(), strict=True)
    ]
    counts = range(2, max(map(len, ordered)) + 1)
    by_count = {n: float(np.mean([_among(one, n) for one in ordered if len(one) >= n])) for n in counts}
    return {
        "groups": len(several), "first": float(np.mean(first)), "gain": float(gains.mean()), "possible": float(possible.mean()),
        "share": share["value"], "share_low": share["low"], "share_high": share["high"], "by_count": by_count,
    }  # fmt: skip


def _by_score(scores: np.ndarray, opinions: np.ndarray) -> np.ndarray:
    """Opinions in the order of falling scores; those of equal scores by their mean."""
    places = sorted(range(len(scores)), key=lambda place: -scores[place])
    runs = [list(run) for _, run in groupby(places, key=lambda place: scores[place])]
    return np.concatenate([np.full(len(run), opinions[run].mean()) for run in runs])


def _among(ordered: np.ndarray, count: int) -> float:
    """The expected gain of the first of `count` entries that are drawn at random."""
    weights = np.array([comb(len(ordered) - 1 - place, count - 1) for place in range(len(ordered))]) / comb(len(ordered), count)
    return float(weights @ ordered - ordered.mean())


def _srcc_interval(scores: np.ndarray, mos: np.ndarray, names: Sequence[str]) -> tuple[float, float]:
    from scipy.stats import rankdata

    def srcc(chosen: np.ndarray) -> float:
        if np.ptp(scores[chosen]) > 0 and np.ptp(mos[chosen]) > 0:
            return correlation(rankdata(scores[chosen]), rankdata(mos[chosen]))
        return NAN

    return resampled(srcc, names, RESAMPLES) if len(set(names)) > 2 else (NAN, NAN)


def disagreement(scores: np.ndarray, opinions: np.ndarray) -> np.ndarray:
    """How much higher the scores (N,) place each image among all than `opinions` (N,) do: −1 … 1, 0 = at the same place."""
    from scipy.stats import rankdata

    return (rankdata(scores) - rankdata(opinions)) / max(1, len(scores) - 1)
