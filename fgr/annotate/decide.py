"""From `annotations` and `preferences` to `consensus`, a sample at a time, with a verdict on every annotator."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.annotate import consensus
from fgr.annotate.consensus import Bounds, Judgement
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.metrics import agreement

REPORT = Path("consensus") / "annotators.json"
TRUTH = 0.1  # a gold sample's defect is where its heuristic map is above this
Row = Mapping[str, Any]


@dataclass(slots=True)
class Opinions:
    """All that is kept of the annotations: scores and times by (sample, annotator), overlap sums and gold answers."""

    samples: list[str]
    people: list[str]
    scores: np.ndarray
    seconds: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    pairs: np.ndarray
    gold_right: np.ndarray
    gold_total: np.ndarray

    @property
    def mean_dice(self) -> np.ndarray:
        """(A,) mean Dice with the others over pairs in which somebody painted; NaN without any."""
        return np.where(self.pairs > 0, self.dice / np.maximum(self.pairs, 1), np.nan)


def gather(directory: Path, gold: Mapping[str, str]) -> Opinions:
    """Read `annotations` once; `gold` are kinds of gold samples by id. UserError if there are none."""
    light = list(tables.read_rows(directory, "annotations", ("id", "annotator", "score", "lead_time_s")))
    samples, people = sorted({row["id"] for row in light}), sorted({row["annotator"] for row in light})
    place, column = {name: i for i, name in enumerate(samples)}, {name: i for i, name in enumerate(people)}
    scores, seconds = np.full((2, len(samples), len(people)), np.nan)
    for one in light:
        at = place[one["id"]], column[one["annotator"]]
        scores[at], seconds[at] = one["score"], one["lead_time_s"]
    dice, iou, pairs, right, total = np.zeros((5, len(people)))
    found = Opinions(samples, people, scores, seconds, dice, iou, pairs, right, total)
    truths = _truths(directory, set(gold) & set(samples))
    for sample, rows in by_sample(directory):
        here = np.array([column[row["annotator"]] for row in rows])
        maps = np.stack([codec.decode_mask(row["degradation_map"]) for row in rows]) > 0
        _add_overlaps(found, here, maps.reshape(len(rows), -1))
        if sample in truths:
            for row, who, painted in zip(rows, here.tolist(), maps, strict=True):
                found.gold_total[who] += 1
                found.gold_right[who] += consensus.gold_right(gold[sample], row["score"], painted, truths[sample])
    return found


def by_sample(directory: Path) -> Iterator[tuple[str, list[Row]]]:
    """The annotations of each sample: the table is sorted by sample."""
    rows = tables.read_rows(directory, "annotations", ("id", "annotator", "score", "degradation_map"))
    for sample, group in groupby(rows, key=lambda row: row["id"]):
        yield sample, list(group)


def _add_overlaps(found: Opinions, here: np.ndarray, painted: np.ndarray) -> None:
    dice, iou = agreement.overlaps(painted)
    some = np.asarray(painted.any(axis=1))
    counts = (some[:, None] | some[None, :]) & ~np.eye(len(here), dtype=bool)
    found.dice[here] += (dice * counts).sum(1)
    found.iou[here] += (iou * counts).sum(1)
    found.pairs[here] += counts.sum(1)


def _truths(directory: Path, ids: set[str]) -> dict[str, np.ndarray]:
    rows = tables.read_rows(directory, "samples", ("id", "degradation_map")) if ids else iter(())
    return {row["id"]: codec.decode_map(row["degradation_map"]) > TRUTH for row in rows if row["id"] in ids}


def judge(found: Opinions, bounds: Bounds, screen: bool) -> tuple[Judgement, list[list[str]]]:
    """What is known of each annotator, and the reasons to leave them out; `screen`: BT.500's rejection is one."""
    work = (~np.isnan(found.scores)).sum(0)
    seconds = np.array([np.nanmedian(column) if n else 0.0 for column, n in zip(found.seconds.T, work, strict=True)])
    known = Judgement(
        work, seconds, agreement.correlation(found.scores, bounds.min_work), found.mean_dice,
        found.gold_right.astype(int), found.gold_total.astype(int), np.nan_to_num(np.nanstd(found.scores, 0)),
        consensus.bt500(found.scores),
    )  # fmt: skip
    reasons = consensus.flags(known, bounds, screen)
    return known, [[] for _ in reasons] if all(reasons) else reasons


def decide(directory: Path, gold: Mapping[str, str], bounds: Bounds, scores: str, maps: str) -> dict[str, Any]:
    """Write `consensus` and its report on the annotators; the report. `scores` is mle or mean, `maps` weighted or staple."""
    report: dict[str, Any] = {}
    if tables.shards(directory, "annotations"):
        found = gather(directory, gold)
        known, reasons = judge(found, bounds, scores == "mean")
        accepted = np.array([not reason for reason in reasons])
        kept = np.where(accepted[None, :], found.scores, np.nan)
        recovered = (consensus.mle_scores if scores == "mle" else consensus.mean_scores)(kept)
        weights = consensus.gold_weight(known.gold_right, known.gold_total) * np.nan_to_num(np.maximum(known.dice, 0.05), nan=0.5)
        rows = _rows(directory, found, accepted, weights, recovered, maps)
        tables.write_small(directory, "consensus", rows)
        card.write(directory)
        report = _report(found, known, reasons, recovered)
    if tables.shards(directory, "preferences"):
        report["strengths"] = _strengths(directory)
    if not report:
        raise UserError(f"{directory} has neither annotations nor preferences.", "Bring them in with: fgr annotate pull DATASET")
    atomic.write_text(directory / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def _rows(
    directory: Path, found: Opinions, accepted: np.ndarray, weights: np.ndarray, recovered: consensus.Recovered, kind: str
) -> Iterator[Row]:
    """Rows of `consensus`; samples whose raters are all left out have none."""
    column = {name: i for i, name in enumerate(found.people)}
    place = {name: i for i, name in enumerate(found.samples)}
    make = consensus.staple_map if kind == "staple" else consensus.soft_map
    for sample, rows in by_sample(directory):
        who = np.array([column[row["annotator"]] for row in rows])
        good = accepted[who]
        if not good.any():
            continue
        maps = np.stack([codec.decode_mask(row["degradation_map"]) for row, ok in zip(rows, good, strict=True) if ok])
        dice = agreement.mean_pairwise(agreement.overlaps((maps > 0).reshape(len(maps), -1))[0])
        yield {
            "id": sample,
            "score_mean": float(recovered.mean[place[sample]]),
            "score_std": float(recovered.std[place[sample]]),
            "raters": int(good.sum()),
            "degradation_map": codec.encode_mask(np.rint(make(maps, weights[who[good]]) * 255).astype(np.uint8)),
            "agreement": dice,
            "rejected_raters": [found.people[person] for person in who[~good]],
        }


def _strengths(directory: Path) -> dict[str, float]:
    rows = tables.read_rows(directory, "preferences")
    found = consensus.bradley_terry([(row["left_id"], row["right_id"], row["choice"]) for row in rows])
    return {name: round(value, 4) for name, value in found.items()}


def _report(found: Opinions, known: Judgement, reasons: list[list[str]], recovered: consensus.Recovered) -> dict[str, Any]:
    """Figures on everybody, JSON values alone."""
    alphas = agreement.alpha_by_annotator(found.scores)
    mean_iou = np.where(found.pairs > 0, found.iou / np.maximum(found.pairs, 1), np.nan)
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
        for a, name in enumerate(found.people)
    ]
    total = float(found.pairs.sum())
    return {
        "samples": len(found.samples),
        "annotations": int(known.work.sum()),
        "scores": recovered.method,
        "alpha": _plain(agreement.alpha(found.scores)),
        "alpha_accepted": _plain(agreement.alpha(found.scores[:, [not reason for reason in reasons]])),
        "dice": _plain(found.dice.sum() / total if total else float("nan")),
        "iou": _plain(found.iou.sum() / total if total else float("nan")),
        "annotators": people,
    }


def _plain(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
