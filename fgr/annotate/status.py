"""Progress of a campaign, by annotator and in all, from the server as it is now."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fgr.annotate import consensus
from fgr.annotate.campaign import Campaign
from fgr.annotate.raters import gold_truths
from fgr.annotate.reader import Tally, annotated_tasks, known_people, reader, table_of
from fgr.annotate.studio import Studio
from fgr.dataset import cells
from fgr.images import codec
from fgr.metrics import agreement


@dataclass(slots=True)
class _Progress:
    """What is kept of the annotations while they stream by."""

    rows: dict[tuple[str, str], tuple[float, float, str]] = field(default_factory=dict)  # score, seconds, when
    gold: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    dice: list[float] = field(default_factory=list)


def status(studio: Studio, directory: Path, campaign: Campaign) -> dict[str, Any]:
    """Figures as JSON values: progress, gold accuracy, median time, agreement so far, and work and time left."""
    table = table_of(campaign)
    read = reader(directory, campaign, known_people(studio, directory, campaign), table)
    progress, tally = _Progress(), Tally(table)
    truths = gold_truths(directory, set(campaign.gold))
    maps: dict[str, list[np.ndarray]] = defaultdict(list)
    for title in campaign.projects.values():
        for task in annotated_tasks(studio, campaign, title, tally):
            for row, stamp in read.rows(task, tally):
                key = task.key
                progress.rows[key, row["annotator"]] = (row.get("score", float("nan")), row.get("lead_time_s", 0.0), stamp)
                if table == "annotations":
                    painted = cells.pixels(row, "degradation_map", codec.decode_mask) > 0
                    maps[key].append(np.packbits(painted))
                    if key in truths:
                        right = consensus.gold_right(campaign.gold[key], row["score"], painted, truths[key])
                        progress.gold[row["annotator"]].append(right)
    progress.dice = [_dice(group) for group in maps.values() if len(group) > 1]
    return _figures(campaign, progress, tally)


def _figures(campaign: Campaign, progress: _Progress, tally: Tally) -> dict[str, Any]:
    named, per_sample = any(campaign.projects), int(campaign.recipe["raters"])
    needed = {entry.key: len(entry.projects) if named else per_sample for entry in campaign.entries}
    wanted = sum(needed.values())
    raters = Counter(key for key, _ in progress.rows)
    by_person: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (_, who), work in progress.rows.items():
        by_person[who].append(work)
    people = [
        {
            "annotator": who,
            "done": len(work),
            "median_seconds": round(median(seconds for _, seconds, _ in work), 1),
            "gold_right": sum(progress.gold[who]) if who in progress.gold else 0,
            "gold_total": len(progress.gold[who]) if who in progress.gold else 0,
            "last": max(when for _, _, when in work)[:16],
        }
        for who, work in sorted(by_person.items())
    ]
    left = max(wanted - len(progress.rows), 0)
    times = [seconds for _, seconds, _ in progress.rows.values() if seconds > 0]
    return {
        "project": campaign.name,
        "samples": len(campaign.entries),
        "samples_done": sum(raters[key] >= count for key, count in needed.items()),
        "samples_begun": sum(raters[key] > 0 for key in needed),
        "annotations": len(progress.rows),
        "annotations_wanted": wanted,
        "left_out": dict(tally.left_out),
        "problems": tally.problems,
        "alpha": _alpha(progress),
        "dice": round(float(np.mean(progress.dice)), 4) if progress.dice else None,
        "median_seconds": round(median(times), 1) if times else None,
        "hours_of_work_left": round(left * median(times) / 3600, 2) if times else None,
        "done_by": _done_by(sorted(when for _, _, when in progress.rows.values() if when), left),
        "annotators": people,
    }


def _done_by(times: list[str], left: int) -> str | None:
    """When it will be done if work goes on at the same rate; None where that is unknown."""
    if len(times) < 2 or not left:
        return _moment(times[-1]).isoformat(timespec="minutes") if times and not left else None
    first, last = (_moment(time) for time in (times[0], times[-1]))
    try:
        end = last + (last - first) / (len(times) - 1) * left
    except OverflowError:
        return None
    return end.isoformat(timespec="minutes") if last > first else None


def _moment(time: str) -> datetime:
    """A time of the server, in UTC where it names no zone."""
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _alpha(progress: _Progress) -> float | None:
    keys, people = (sorted({pair[i] for pair in progress.rows}) for i in (0, 1))
    scores = np.full((len(keys), len(people)), np.nan)
    place, column = {key: i for i, key in enumerate(keys)}, {who: i for i, who in enumerate(people)}
    for (key, who), (score, _, _) in progress.rows.items():
        scores[place[key], column[who]] = score
    value = agreement.alpha(scores) if scores.size else float("nan")
    return round(value, 4) if np.isfinite(value) else None


def _dice(group: list[np.ndarray]) -> float:
    return agreement.mean_pairwise(agreement.overlaps(np.unpackbits(np.stack(group), axis=1).astype(bool))[0])
