"""Statistics of each rater – work, agreement, gold samples – and the reasons to leave one out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fgr.annotate import consensus
from fgr.dataset import cells, tables
from fgr.images import codec
from fgr.metrics import agreement
from fgr.recipe.annotate import Consensus

ENOUGH = 20  # samples of a rater from which a correlation can be held against chance
TRUTH = 0.1  # a gold sample's defect is where its heuristic map is above this
Row = Mapping[str, Any]


@dataclass(slots=True)
class Ratings:
    """All that is kept of the annotations: scores and times by (sample, rater), sums of overlaps and gold answers by rater."""

    samples: list[str]
    raters: list[str]
    scores: np.ndarray
    seconds: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    pairs: np.ndarray
    gold_right: np.ndarray
    gold_total: np.ndarray
    doubted: list[str] = field(default_factory=list)  # gold samples on which the panel as a whole disagrees with the truth

    @property
    def mean_dice(self) -> np.ndarray:
        """(A,) mean Dice with the others over pairs in which somebody painted; NaN without any."""
        return np.where(self.pairs > 0, self.dice / np.maximum(self.pairs, 1), np.nan)


def gather(directory: Path, gold: Mapping[str, str]) -> Ratings:
    """Read `annotations` once; `gold` are kinds of gold samples by id."""
    light = list(tables.read_rows(directory, "annotations", ("id", "annotator", "score", "lead_time_s")))
    samples, raters = sorted({row["id"] for row in light}), sorted({row["annotator"] for row in light})
    place, column = {name: i for i, name in enumerate(samples)}, {name: i for i, name in enumerate(raters)}
    scores, seconds = np.full((2, len(samples), len(raters)), np.nan)
    for one in light:
        at = place[one["id"]], column[one["annotator"]]
        scores[at], seconds[at] = one["score"], one["lead_time_s"]
    dice, iou, pairs, right, total = np.zeros((5, len(raters)))
    ratings = Ratings(samples, raters, scores, seconds, dice, iou, pairs, right, total)
    truths = gold_truths(directory, set(gold) & set(samples))
    for sample, rows in by_sample(directory):
        columns = np.array([column[row["annotator"]] for row in rows])
        maps = np.stack([cells.pixels(row, "degradation_map", codec.decode_mask) for row in rows]) > 0
        _add_overlaps(ratings, columns, maps.reshape(len(rows), -1))
        if sample not in truths:
            continue
        if not consensus.gold_stands(gold[sample], np.array([row["score"] for row in rows]), maps, truths[sample]):
            ratings.doubted.append(sample)
        else:
            for row, who, painted in zip(rows, columns.tolist(), maps, strict=True):
                ratings.gold_total[who] += 1
                ratings.gold_right[who] += consensus.gold_right(gold[sample], row["score"], painted, truths[sample])
    return ratings


def by_sample(directory: Path) -> Iterator[tuple[str, list[Row]]]:
    """The annotations of each sample: the table is sorted by sample."""
    rows = tables.read_rows(directory, "annotations", ("id", "annotator", "score", "degradation_map"))
    for sample, group in groupby(rows, key=lambda row: row["id"]):
        yield sample, list(group)


def _add_overlaps(ratings: Ratings, columns: np.ndarray, painted: np.ndarray) -> None:
    dice, iou = agreement.overlaps(painted)
    some = np.asarray(painted.any(axis=1))
    counts = (some[:, None] | some[None, :]) & ~np.eye(len(columns), dtype=bool)
    ratings.dice[columns] += (dice * counts).sum(1)
    ratings.iou[columns] += (iou * counts).sum(1)
    ratings.pairs[columns] += counts.sum(1)


def gold_truths(directory: Path, ids: set[str]) -> dict[str, np.ndarray]:
    """Where the samples `ids` have their defects: boolean (H, W) by id."""
    rows = tables.read_rows(directory, "samples", ("id", "degradation_map")) if ids else iter(())
    return {row["id"]: cells.pixels(row, "degradation_map") > TRUTH for row in rows if row["id"] in ids}


@dataclass(frozen=True, slots=True)
class RaterStatistics:
    """What is known of the raters, each (A,): work done, median seconds, and agreement with the others."""

    work: np.ndarray
    seconds: np.ndarray
    correlation: np.ndarray
    dice: np.ndarray
    gold_right: np.ndarray
    gold_total: np.ndarray
    spread: np.ndarray
    screened: np.ndarray
    few: bool = False  # no sample has scores enough for BT.500's screening


def statistics(ratings: Ratings, min_work: int) -> RaterStatistics:
    """What is known of each rater; correlations only of those who share at least `min_work` samples with others."""
    work = (~np.isnan(ratings.scores)).sum(0)
    seconds = np.array([np.nanmedian(column) if n else 0.0 for column, n in zip(ratings.seconds.T, work, strict=True)])
    return RaterStatistics(
        work, seconds, agreement.correlation(ratings.scores, min_work), ratings.mean_dice,
        ratings.gold_right.astype(int), ratings.gold_total.astype(int), np.nan_to_num(np.nanstd(ratings.scores, 0)),
        consensus.bt500(ratings.scores), bool(((~np.isnan(ratings.scores)).sum(1) < consensus.BT500_LEAST).all()),
    )  # fmt: skip


def exclusion_reasons(known: RaterStatistics, settings: Consensus) -> list[list[str]]:
    """For each rater the reasons to leave them out, as phrases with the figures; none for raters with too little work.

    BT.500's rejection is a reason with mean scores only: maximum likelihood gives the inconsistent less weight by itself. Where
    there are too few raters for it, who clicks at random is told by the correlation with the rest (ITU-T P.913): it must be
    better than chance.
    """
    usual = float(np.nanmedian(known.dice)) if np.isfinite(known.dice).any() else float("nan")
    reasons: list[list[str]] = []
    for a in range(len(known.work)):
        found: list[str] = []
        if known.gold_total[a] >= 3 and known.gold_right[a] < settings.min_gold * known.gold_total[a]:
            found.append(f"{known.gold_right[a]} of {known.gold_total[a]} gold samples right")
        if known.work[a] >= settings.min_work:
            found += _habits(known, a, usual, settings)
            found += ["rejected by the screening of ITU-R BT.500"] if settings.scores == "mean" and known.screened[a] else []
        reasons.append(found)
    return reasons


def _habits(known: RaterStatistics, a: int, usual: float, settings: Consensus) -> list[str]:
    found = []
    if known.spread[a] == 0:
        found.append("the same score for every sample")
    elif known.correlation[a] < max(settings.min_correlation, _chance(known, a)):
        found.append(f"scores follow the others' with a correlation of {known.correlation[a]:.2f} only")
    if known.dice[a] < settings.min_dice * usual:
        found.append(f"maps overlap the others' by Dice {known.dice[a]:.2f}, the usual is {usual:.2f}")
    if 0 < known.seconds[a] < settings.min_seconds:
        found.append(f"{known.seconds[a]:.1f} s a sample")
    return found


def _chance(known: RaterStatistics, a: int) -> float:
    """The correlation that one in twenty random clickers exceeds, where BT.500 has too few raters; −1 of too little work."""
    return 1.645 / float(np.sqrt(known.work[a] - 1)) if known.few and known.work[a] >= ENOUGH else -1.0
