"""How far the people are: by annotator and in all, from the server as it is now."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fgr.annotate import consensus, tasks
from fgr.annotate.plan import Plan
from fgr.annotate.pull import Tally, known_people, reader, room_work, table_of
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.images import codec
from fgr.metrics import agreement


@dataclass(slots=True)
class _Seen:
    """What is kept of the work while it streams by."""

    rows: dict[tuple[str, str], tuple[float, float, str]] = field(default_factory=dict)  # score, seconds, when
    gold: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    dice: list[float] = field(default_factory=list)
    planned: Counter[str] = field(default_factory=Counter)


def status(studio: Studio, directory: Path, plan: Plan, overlap: int) -> dict[str, Any]:
    """Figures as JSON values: progress, gold accuracy, median time, agreement so far, and work and time left."""
    table = table_of(plan)
    read = reader(directory, plan, known_people(studio, directory, plan), table)
    seen, tally = _Seen(), Tally(table)
    truths = _truths(directory, set(plan.gold))
    maps: dict[str, list[np.ndarray]] = defaultdict(list)
    for title in plan.rooms.values():
        for task in room_work(studio, plan, title):
            for row, stamp in read.rows(task, tally):
                key = str(task["data"][tasks.KEY])
                seen.rows[key, row["annotator"]] = (row.get("score", float("nan")), row.get("lead_time_s", 0.0), stamp)
                if table == "annotations":
                    painted = codec.decode_mask(row["degradation_map"]) > 0
                    maps[key].append(np.packbits(painted))
                    if key in truths:
                        right = consensus.gold_right(plan.gold[key], row["score"], painted, truths[key])
                        seen.gold[row["annotator"]].append(right)
    seen.dice = [_dice(group) for group in maps.values() if len(group) > 1]
    return _figures(plan, seen, tally, overlap)


def _figures(plan: Plan, seen: _Seen, tally: Tally, overlap: int) -> dict[str, Any]:
    named = any(plan.rooms)
    wanted = sum(len(entry.rooms) if named else overlap for entry in plan.entries)
    raters = Counter(key for key, _ in seen.rows)
    by_person: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (_, who), work in seen.rows.items():
        by_person[who].append(work)
    people = [
        {
            "annotator": who,
            "done": len(work),
            "median_seconds": round(median(seconds for _, seconds, _ in work), 1),
            "gold_right": sum(seen.gold[who]) if who in seen.gold else 0,
            "gold_total": len(seen.gold[who]) if who in seen.gold else 0,
            "last": max(when for _, _, when in work)[:16],
        }
        for who, work in sorted(by_person.items())
    ]
    left = max(wanted - len(seen.rows), 0)
    times = [seconds for _, seconds, _ in seen.rows.values() if seconds > 0]
    needed = {entry.key: len(entry.rooms) if named else overlap for entry in plan.entries}
    return {
        "project": plan.name,
        "samples": len(plan.entries),
        "samples_done": sum(raters[key] >= count for key, count in needed.items()),
        "samples_begun": sum(raters[key] > 0 for key in needed),
        "annotations": len(seen.rows),
        "annotations_wanted": wanted,
        "left_out": dict(tally.left_out),
        "alpha": _alpha(seen),
        "dice": round(float(np.mean(seen.dice)), 4) if seen.dice else None,
        "median_seconds": round(median(times), 1) if times else None,
        "hours_of_work_left": round(left * median(times) / 3600, 2) if times else None,
        "done_by": _done_by(sorted(when for _, _, when in seen.rows.values() if when), left),
        "annotators": people,
    }


def _done_by(times: list[str], left: int) -> str | None:
    """When it will be done at the pace of the work so far, None where that cannot be told."""
    if len(times) < 2 or not left:
        return datetime.fromisoformat(times[-1]).isoformat(timespec="minutes") if times and not left else None
    first, last = (datetime.fromisoformat(time) for time in (times[0], times[-1]))
    if last <= first:
        return None
    return (last + (last - first) / (len(times) - 1) * left).isoformat(timespec="minutes")


def _alpha(seen: _Seen) -> float | None:
    keys, people = (sorted({pair[i] for pair in seen.rows}) for i in (0, 1))
    scores = np.full((len(keys), len(people)), np.nan)
    place, column = {key: i for i, key in enumerate(keys)}, {who: i for i, who in enumerate(people)}
    for (key, who), (score, _, _) in seen.rows.items():
        scores[place[key], column[who]] = score
    value = agreement.alpha(scores) if scores.size else float("nan")
    return round(value, 4) if np.isfinite(value) else None


def _dice(group: list[np.ndarray]) -> float:
    return agreement.mean_pairwise(agreement.overlaps(np.unpackbits(np.stack(group), axis=1).astype(bool))[0])


def _truths(directory: Path, ids: set[str]) -> dict[str, np.ndarray]:
    rows = tables.read_rows(directory, "samples", ("id", "degradation_map")) if ids else iter(())
    return {row["id"]: codec.decode_map(row["degradation_map"]) > 0.1 for row in rows if row["id"] in ids}
