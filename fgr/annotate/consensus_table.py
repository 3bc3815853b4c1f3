"""Writes the table `consensus` from annotations and preferences, and a report on the raters."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.annotate import consensus
from fgr.annotate.raters import RaterStatistics, Ratings, Row, by_sample, exclusion_reasons, gather, statistics
from fgr.dataset import card, cells, tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.metrics import agreement
from fgr.recipe.annotate import Consensus

REPORT = Path("consensus") / "annotators.json"


def write_consensus(directory: Path, gold: Mapping[str, str], settings: Consensus) -> dict[str, Any]:
    """Write `consensus` and its report on the raters; the report, as JSON values. `gold` are kinds of gold samples by id.

    Nobody is left out if everybody would be. UserError if there is nothing to estimate from.
    """
    report: dict[str, Any] = {}
    if tables.shards(directory, "annotations"):
        ratings = gather(directory, gold)
        known = statistics(ratings, settings.min_work)
        reasons = exclusion_reasons(known, settings)
        if all(reasons):
            reasons = [[] for _ in reasons]
        accepted = np.array([not reason for reason in reasons])
        kept = np.where(accepted[None, :], ratings.scores, np.nan)
        recovered = (consensus.mle_scores if settings.scores == "mle" else consensus.mean_scores)(kept)
        weights = consensus.gold_weight(known.gold_right, known.gold_total) * np.nan_to_num(np.maximum(known.dice, 0.05), nan=0.5)
        rows = _rows(directory, ratings, accepted, weights, recovered, settings.maps)
        tables.write_small(directory, "consensus", rows)
        card.write(directory)
        report = _report(ratings, known, reasons, recovered)
    if tables.shards(directory, "preferences"):
        report["strengths"] = _strengths(directory)
    if not report:
        raise UserError(f"{directory} has neither annotations nor preferences.", "Bring them in with: fgr annotate pull DATASET")
    atomic.write_json(directory / REPORT, report)
    return report


def _rows(
    directory: Path, ratings: Ratings, accepted: np.ndarray, weights: np.ndarray, recovered: consensus.RecoveredScores, kind: str
) -> Iterator[Row]:
    """Rows of `consensus`; samples whose raters are all left out have none."""
    column = {name: i for i, name in enumerate(ratings.raters)}
    place = {name: i for i, name in enumerate(ratings.samples)}
    make = consensus.staple_map if kind == "staple" else consensus.soft_map
    for sample, rows in by_sample(directory):
        who = np.array([column[row["annotator"]] for row in rows])
        good = accepted[who]
        if not good.any():
            continue
        maps = np.stack(
            [cells.pixels(row, "degradation_map", codec.decode_mask) for row, ok in zip(rows, good, strict=True) if ok]
        )
        dice = agreement.mean_pairwise(agreement.overlaps((maps > 0).reshape(len(maps), -1))[0])
        yield {
            "id": sample,
            "score_mean": float(recovered.mean[place[sample]]),
            "score_std": float(recovered.std[place[sample]]),
            "raters": int(good.sum()),
            "degradation_map": codec.encode_mask(np.rint(make(maps, weights[who[good]]) * 255).astype(np.uint8)),
            "agreement": dice,
            "rejected_raters": [ratings.raters[person] for person in who[~good]],
        }


def _strengths(directory: Path) -> dict[str, float]:
    rows = tables.read_rows(directory, "preferences")
    strengths = consensus.bradley_terry([(row["left_id"], row["right_id"], row["choice"]) for row in rows])
    return {name: round(value, 4) for name, value in strengths.items()}


def _report(
    ratings: Ratings, known: RaterStatistics, reasons: list[list[str]], recovered: consensus.RecoveredScores
) -> dict[str, Any]:
    """Figures on everybody, JSON values alone."""
    alphas = agreement.alpha_by_annotator(ratings.scores)
    mean_iou = np.where(ratings.pairs > 0, ratings.iou / np.maximum(ratings.pairs, 1), np.nan)
    people = [
        {
            "annotator": name,
            "samples": int(known.work[a]),
            "median_seconds": _plain(known.seconds[a]),
            "correlation": _plain(known.correlation[a]),
            "alpha": _plain(alphas[a]),
            "dice": _plain(known.dice[a]),
            "iou": _plain(mean_iou[a]),
            "gold_right": int(known.gold_right[a]),
            "gold_total": int(known.gold_total[a]),
            "bias": _plain(recovered.bias[a]),
            "inconsistency": _plain(recovered.inconsistency[a]),
            "bt500_rejects": bool(known.screened[a]),
            "left_out": reasons[a],
        }
        for a, name in enumerate(ratings.raters)
    ]
    total = float(ratings.pairs.sum())
    return {
        "samples": len(ratings.samples),
        "annotations": int(known.work.sum()),
        "scores": recovered.method,
        "screening": "correlation with the rest (ITU-T P.913) and gold: too few raters for BT.500" if known.few else "BT.500",
        "gold_doubted": ratings.doubted,
        "alpha": _plain(agreement.alpha(ratings.scores)),
        "alpha_accepted": _plain(agreement.alpha(ratings.scores[:, [not reason for reason in reasons]])),
        "dice": _plain(ratings.dice.sum() / total if total else float("nan")),
        "iou": _plain(ratings.iou.sum() / total if total else float("nan")),
        "annotators": people,
    }


def _plain(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
