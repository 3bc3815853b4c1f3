"""How far people agree: Krippendorff's alpha for scores, Dice and IoU for maps. Pure.

Scores are float (S, A): samples × annotators, NaN where an annotator did not see the sample.
"""

import numpy as np

from fgr.errors import missing_extra


def alpha(scores: np.ndarray) -> float:
    """Krippendorff's alpha of scores 0…100 (rounded), interval level; NaN where nothing can be compared."""
    try:
        import krippendorff
    except ModuleNotFoundError:
        raise missing_extra("krippendorff", "annotate", "Krippendorff's alpha") from None
    shared = scores[np.sum(~np.isnan(scores), 1) > 1]
    rounded = np.rint(shared)
    if not shared.size or np.nanmin(rounded) == np.nanmax(rounded):
        return float("nan")
    return float(krippendorff.alpha(reliability_data=rounded.T, level_of_measurement="interval"))


def alpha_by_annotator(scores: np.ndarray) -> np.ndarray:
    """(A,) alpha of each annotator against the mean of the others on the same samples."""
    others = mean_of_others(scores)
    return np.array([alpha(np.stack([scores[:, a], others[:, a]], 1)) for a in range(scores.shape[1])])


def mean_of_others(scores: np.ndarray) -> np.ndarray:
    """(S, A): the mean of everybody else's scores where the annotator has one too, else NaN."""
    seen = ~np.isnan(scores)
    total = np.nansum(scores, 1, keepdims=True) - np.where(seen, scores, 0)
    count = seen.sum(1, keepdims=True) - seen
    return np.where(seen & (count > 0), total / np.maximum(count, 1), np.nan)


def correlation(scores: np.ndarray, least: int = 3) -> np.ndarray:
    """(A,) Pearson correlation of each annotator with the mean of the others; NaN for fewer than `least` shared samples.

    0 where an annotator never varies: a constant says nothing.
    """
    others = mean_of_others(scores)
    found = np.full(scores.shape[1], np.nan)
    for a in range(scores.shape[1]):
        both = ~np.isnan(scores[:, a]) & ~np.isnan(others[:, a])
        if both.sum() < least:
            continue
        mine, theirs = scores[both, a], others[both, a]
        varies = mine.std() > 1e-9 and theirs.std() > 1e-9
        found[a] = float(np.corrcoef(mine, theirs)[0, 1]) if varies else 0.0
    return found


def overlaps(painted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairwise Dice and IoU, each (R, R), of boolean maps (R, P); 1 where both are empty."""
    flat = painted.astype(np.float32)
    inter = flat @ flat.T
    area = np.diag(inter)
    total = area[:, None] + area[None, :]
    union = total - inter
    dice = np.where(total > 0, 2 * inter / np.maximum(total, 1), 1.0)
    return dice, np.where(union > 0, inter / np.maximum(union, 1), 1.0)


def mean_pairwise(matrix: np.ndarray) -> float:
    """The mean over pairs of an (R, R) symmetric matrix; NaN for fewer than two raters."""
    upper = matrix[np.triu_indices(len(matrix), 1)]
    return float(upper.mean()) if upper.size else float("nan")
