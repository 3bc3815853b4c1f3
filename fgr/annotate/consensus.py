"""Estimates from several raters: scores, maps, strengths from preferences, gold answers. Pure.

Scores are float (S, A): samples × annotators, 0…100, NaN where an annotator did not see the sample.
"""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from fgr.errors import missing_extra

STAPLE_ITERATIONS = 30
BT500_LEAST = 6  # scores of a sample: among five nobody can be two (population) standard deviations from the mean
PANEL = 3  # answers to a gold sample from which they check its truth
FLOOR = 1.0  # points: a smaller inconsistency means that the fit has followed one annotator alone


@dataclass(frozen=True, slots=True)
class RecoveredScores:
    """Scores recovered from many: (S,) mean, standard deviation over raters, raters; (A,) bias and inconsistency."""

    mean: np.ndarray
    std: np.ndarray
    raters: np.ndarray
    bias: np.ndarray
    inconsistency: np.ndarray
    method: str


def bt500(scores: np.ndarray) -> np.ndarray:
    """(A,) True for annotators that ITU-R BT.500's screening rejects.

    Outliers are counted beyond 2 standard deviations of a sample where its scores look normal (kurtosis 2…4), beyond √20
    elsewhere, over the samples an annotator has seen; samples with fewer than BT500_LEAST scores are left out.
    """
    seen = ~np.isnan(scores)
    enough = seen.sum(1) >= BT500_LEAST
    values = scores[enough]
    if not len(values):
        return np.zeros(scores.shape[1], bool)
    mean = np.nanmean(values, 1, keepdims=True)
    square = np.nanmean((values - mean) ** 2, 1, keepdims=True)
    fourth = np.nanmean((values - mean) ** 4, 1, keepdims=True)
    kurtosis = fourth / np.maximum(square**2, 1e-12)
    bound = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, np.sqrt(20.0)) * np.sqrt(square)
    varies = square > 0
    above = ((values >= mean + bound) & varies).sum(0)
    below = ((values <= mean - bound) & varies).sum(0)
    outliers = above + below
    share = outliers / np.maximum(seen[enough].sum(0), 1)
    lopsided = np.abs(above - below) / np.maximum(outliers, 1)
    rejected = (share > 0.05) & (lopsided < 0.3)
    return np.zeros_like(rejected) if rejected.all() else rejected


def mean_scores(scores: np.ndarray) -> RecoveredScores:
    """The plain mean; bias and inconsistency of an annotator are the mean and the spread of the difference to it."""
    seen = ~np.isnan(scores)
    raters = seen.sum(1)
    total = np.nansum(scores, 1)
    mean = np.where(raters > 0, total / np.maximum(raters, 1), np.nan)
    residual = np.where(seen, scores - mean[:, None], 0.0)
    work = np.maximum(seen.sum(0), 1)
    bias = residual.sum(0) / work
    spread = np.sqrt(np.where(seen, (residual - bias) ** 2, 0).sum(0) / work)
    std = np.sqrt((residual**2).sum(1) / np.maximum(raters, 1))
    return RecoveredScores(mean, std, raters, bias, spread, "mean")


def mle_scores(scores: np.ndarray) -> RecoveredScores:
    """Maximum likelihood (ITU-T P.910 annex E, by sureal): each annotator has a bias and an inconsistency.

    Falls back to the mean of scores without their annotators' biases (ITU-T P.913), and says so in `method`, where the
    likelihood has no maximum: with few scores a sample the fit can follow one annotator exactly.
    """
    try:
        from sureal.dataset_reader import RawDatasetReader
        from sureal.subjective_model import SubjectMLEModelProjectionSolver
    except ModuleNotFoundError:
        raise missing_extra("sureal", "annotate", "Maximum likelihood recovery of scores") from None
    plain = mean_scores(scores)
    kept = plain.raters > 0
    work = (~np.isnan(scores)).sum(0)
    if kept.sum() < 2 or (work > 0).sum() < 2:
        return _unbiased(scores, plain, "too few scores for maximum likelihood")
    people = np.flatnonzero(work > 0)
    dataset = sureal_dataset(scores[np.ix_(kept, people)])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = SubjectMLEModelProjectionSolver(RawDatasetReader(dataset)).run_modeling()
    value = np.array(found["quality_scores"])
    spread = np.array(found["observer_inconsistency"])
    if not np.isfinite(value).all() or (spread[work[people] > 1] < FLOOR).any() or (work[people] < 2).any():
        return _unbiased(scores, plain, "maximum likelihood has no maximum here: too few scores a sample")
    mean, bias, inconsistency = plain.mean.copy(), np.zeros(len(work)), np.zeros(len(work))
    mean[kept] = np.clip(value, 0, 100)
    bias[people], inconsistency[people] = found["observer_bias"], spread
    residual = scores - mean[:, None] - bias
    std = np.sqrt(np.nansum(residual**2, 1) / np.maximum(plain.raters, 1))
    return RecoveredScores(mean, std, plain.raters, bias, inconsistency, "mle")


def _unbiased(scores: np.ndarray, plain: RecoveredScores, why: str) -> RecoveredScores:
    found = mean_scores(scores - plain.bias)
    mean = np.clip(found.mean, 0, 100)
    return RecoveredScores(mean, found.std, plain.raters, plain.bias, plain.inconsistency, f"mean without biases ({why})")


def sureal_dataset(scores: np.ndarray) -> SimpleNamespace:
    """Scores in the form sureal reads: each sample a 'video' with the opinions it has."""
    videos = [{"content_id": i, "asset_id": i, "path": str(i), "os": _opinions(row)} for i, row in enumerate(scores)]
    return SimpleNamespace(ref_videos=[{"content_id": i, "path": str(i)} for i in range(len(scores))], dis_videos=videos)


def _opinions(row: np.ndarray) -> dict[str, float]:
    return {f"{a:06d}": float(row[a]) for a in np.flatnonzero(~np.isnan(row)).tolist()}  # sureal sorts names as text


def soft_map(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 (H, W) in [0, 1]: the weighted mean of uint8 maps (R, H, W), 0…255; weights (R,) ≥ 0, all 0 counts as equal."""
    used = weights if weights.sum() > 0 else np.ones_like(weights)
    return np.clip(np.tensordot(used / used.sum(), maps.astype(np.float32) / 255, 1), 0, 1).astype(np.float32)


def staple_map(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float32 (H, W): STAPLE's probability that a pixel is defective, times the mean severity of those who painted it."""
    try:
        import SimpleITK as sitk
    except ModuleNotFoundError:
        raise missing_extra("SimpleITK", "annotate", "consensus.maps=staple") from None
    painted = maps > 0
    if len(maps) < 2 or not painted.any() or painted.all():
        return soft_map(maps, weights)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in painted]
    probability = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0, 1, STAPLE_ITERATIONS))  # it has no limit of its own
    used = weights if weights.sum() > 0 else np.ones_like(weights)
    weight = np.tensordot(used, painted.astype(np.float32), 1)
    severity = np.tensordot(used, maps.astype(np.float32) / 255, 1) / np.maximum(weight, 1e-9)
    return np.clip(probability * severity, 0, 1).astype(np.float32)


def gold_right(kind: str, score: float, painted: np.ndarray, truth: np.ndarray) -> bool:
    """Whether an answer to a gold sample is right; `painted` and `truth` are boolean (H, W).

    Clean: hardly anything painted, score good or better. Strong: a third of the paint on the defect, a third of the defect
    painted, score below excellent.
    """
    if kind == "clean":
        return bool(painted.mean() <= 0.02 and score > 60)
    hit = float((painted & truth).sum())
    return bool(hit >= 0.33 * painted.sum() and hit >= 0.33 * truth.sum() and hit > 0 and score <= 80)


def gold_stands(kind: str, scores: np.ndarray, painted: np.ndarray, truth: np.ndarray) -> bool:
    """Whether the panel's own answer to a gold sample is right: its median score (R,) and what most of it painted, (R, H, W).

    Where it is not, the sample's heuristic map is in doubt, not the panel. Fewer than PANEL answers cannot doubt it.
    """
    return len(scores) < PANEL or gold_right(kind, float(np.median(scores)), painted.mean(0) > 0.5, truth)


def gold_weight(right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Weights in (0, 1) from `right` of `total` answers: the mean of a Beta(1, 1) prior updated by them."""
    return (right + 1) / (total + 2)


def bradley_terry(choices: Sequence[tuple[str, str, str]], smoothing: float = 0.1) -> dict[str, float]:
    """Strengths by sample from (left, right, choice): log odds of being preferred, mean 0 among those compared with each other.

    A tie is half a win for either. `smoothing` keeps samples that always won finite. Groups never compared share no scale.
    """
    try:
        import choix
    except ModuleNotFoundError:
        raise missing_extra("choix", "annotate", "Scores from preferences") from None
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = sorted({name for left, right, _ in choices for name in (left, right)})
    index = {name: i for i, name in enumerate(names)}
    edges = np.array([(index[left], index[right]) for left, right, _ in choices], int).reshape(-1, 2)
    _, group = connected_components(coo_array((np.ones(len(edges)), edges.T), shape=(len(names), len(names))), directed=False)
    strengths: dict[str, float] = {}
    for part in range(int(group.max(initial=-1)) + 1):
        members = np.flatnonzero(group == part)
        local = {names[m]: i for i, m in enumerate(members.tolist())}
        data = [pair for choice in choices if choice[0] in local for pair in _wins(choice, local)]
        found = choix.ilsr_pairwise(len(members), data, alpha=smoothing)
        strengths |= {name: float(found[i] - found.mean()) for name, i in local.items()}
    return strengths


def _wins(choice: tuple[str, str, str], index: dict[str, int]) -> list[tuple[int, int]]:
    """(winner, loser) pairs, two a comparison, so that a tie can be one each."""
    left, right = index[choice[0]], index[choice[1]]
    return {"left": [(left, right)] * 2, "right": [(right, left)] * 2, "tie": [(left, right), (right, left)]}[choice[2]]
