"""Report on people's work: coverage, scores by annotator, agreement, contested samples."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import groupby
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from fgr.dataset import cells, tables
from fgr.images import codec
from fgr.metrics import agreement
from fgr.report import charts
from fgr.report.dataset_sections import colour_scale, overlay
from fgr.report.section import Section, data_uri, render

OVERALL = ("scores", "alpha", "alpha_accepted", "dice", "iou")  # figures of the consensus about all annotators together
MOST_PANELS = 12  # annotators with a histogram of their own, those with most work
MOST_MAPS = 10  # people shown beside each other
SHOWN = ("id", "composite", "reference", "mask", "degradation_map")  # of a sample
Row = Mapping[str, Any]


def coverage(directory: Path, rows: int) -> Section | None:
    """How many samples have how many opinions, who gave them, which defects they marked; what `consensus` found of them."""
    if not tables.shards(directory, "annotations"):
        return None
    table = list(tables.read_rows(directory, "annotations", ("id", "annotator", "score", "lead_time_s", "defects", "project")))
    total = tables.count_rows(directory, "samples")
    opinions = Counter(Counter(row["id"] for row in table).values())
    counts = {"none": total - sum(opinions.values())} | {str(n): opinions[n] for n in sorted(opinions)}
    verdicts = _verdicts(directory)
    return Section(
        "Annotations",
        render(
            "annotation.html",
            counts=counts,
            done=sum(opinions.values()),
            total=total,
            projects=Counter(row["project"] for row in table),
            kinds=_kinds(table),
            people=_people(table, {one["annotator"]: one for one in verdicts.get("annotators", ())}),
            overall={name: verdicts.get(name) for name in ("scores", "alpha", "alpha_accepted", "dice", "iou")}
            if verdicts
            else {},
        ),
    )


def scores(directory: Path, rows: int) -> Section | None:
    """A histogram of the scores for everybody together and for each of the busiest annotators."""
    if not tables.shards(directory, "annotations"):
        return None
    by_person: dict[str, list[float]] = defaultdict(list)
    for row in tables.read_rows(directory, "annotations", ("annotator", "score")):
        by_person[row["annotator"]].append(row["score"])
    busiest = sorted(by_person, key=lambda name: (-len(by_person[name]), name))[:MOST_PANELS]
    series = {"everybody": [score for mine in by_person.values() for score in mine]} | {name: by_person[name] for name in busiest}
    panels = [
        (name, f"{len(mine)} scores, mean {fmean(mine):.0f}", charts.histogram({name: mine}, 0, 100, bins=20, x="score"))
        for name, mine in series.items()
    ]
    return Section("Scores by annotator", render("panels.html", panels=panels, legend=""))


def contested(directory: Path, rows: int) -> Section | None:
    """The samples on which people agree least, everyone's maps side by side; where nobody shares any, those scored lowest."""
    if not tables.shards(directory, "annotations"):
        return None
    disputes = nlargest(rows, _disputes(directory))
    lowest = () if disputes else nsmallest(rows, _means(directory))
    ranked = [*((sample, gap) for gap, sample in disputes), *((sample, None) for _, sample in lowest)]
    wanted = {sample for sample, _ in ranked}
    work = {sample: group[:MOST_MAPS] for sample, group in _by_sample(directory) if sample in wanted}
    agreed = {row["id"]: row for row in _rows(directory, "consensus") if row["id"] in wanted}
    images = {row["id"]: row for row in _rows(directory, "samples", SHOWN) if row["id"] in wanted}
    shown = [
        {"id": sample, "dispute": gap, "work": work[sample], "pictures": _pictures(images[sample], work[sample], agreed)}
        for sample, gap in ranked
        if sample in images
    ]
    title = "Most contested samples" if disputes else "Annotated samples, lowest score first"
    return Section(title, render("contested.html", groups=shown, scale=colour_scale()))


def preferences(directory: Path, rows: int) -> Section | None:
    """How often left, right and tie were chosen: far from even sides are a warning."""
    table = list(_rows(directory, "preferences"))
    if not table:
        return None
    by_person = {
        name: Counter(row["choice"] for row in table if row["annotator"] == name)
        for name in sorted({r["annotator"] for r in table})
    }
    return Section("Preferences", render("preferences.html", people=by_person, total=len(table)))


def dispute(scores: np.ndarray, painted: np.ndarray) -> float:
    """How far R people are apart on a sample, 0…2: twice the scores' spread (R,) over 100, and 1 − mean Dice of maps (R, P)."""
    dice = agreement.mean_pairwise(agreement.overlaps(painted)[0])
    return float(2 * np.std(scores) / 100 + 1 - dice)


def _disputes(directory: Path) -> Iterator[tuple[float, str]]:
    """(dispute, sample) of every sample with at least two opinions."""
    for sample, group in _by_sample(directory):
        if len(group) > 1:
            maps = np.stack([cells.pixels(row, "degradation_map", codec.decode_mask).ravel() > 0 for row in group])
            yield dispute(np.array([row["score"] for row in group]), maps), sample


def _means(directory: Path) -> Iterator[tuple[float, str]]:
    """(mean score, sample) of every sample with opinions."""
    for sample, group in _by_sample(directory):
        yield fmean(row["score"] for row in group), sample


def _by_sample(directory: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for sample, group in groupby(tables.read_rows(directory, "annotations"), key=lambda row: row["id"]):  # sorted by sample
        yield str(sample), list(group)


def _rows(directory: Path, table: str, columns: tuple[str, ...] | None = None) -> Iterator[dict[str, Any]]:
    yield from tables.read_rows(directory, table, columns) if tables.shards(directory, table) else ()


def _pictures(row: Row, work: list[dict[str, Any]], agreed: Mapping[str, Row]) -> list[tuple[str, str]]:
    """(caption, data URI) of the reference, the image, the dataset's map, the consensus and everybody's map."""
    composite = cells.pixels(row, "composite")
    label = overlay(composite, cells.pixels(row, "mask"), cells.pixels(row, "degradation_map"))
    maps = [("consensus", agreed[row["id"]])] if row["id"] in agreed else []
    maps += [(f"{one['annotator']} · {one['score']:.0f}", one) for one in work]
    shown = [("reference", data_uri(cells.encoded(row, "reference"))), ("image", data_uri(cells.encoded(row, "composite")))]
    shown.append(("computed map", data_uri(codec.encode_rgb(label))))
    for caption, one in maps:
        values = cells.pixels(one, "degradation_map", codec.decode_mask)
        outline = np.where(values > 0, 255, 0).astype(np.uint8)
        shown.append((caption, data_uri(codec.encode_rgb(overlay(composite, outline, values.astype(np.float32) / 255)))))
    return shown


def _kinds(table: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(kind, regions, mean severity), the most frequent first."""
    severities: dict[str, list[int]] = defaultdict(list)
    for row in table:
        for defect in row["defects"]:
            severities[defect["kind"]].append(defect["severity"])
    return sorted(((kind, len(stars), fmean(stars)) for kind, stars in severities.items()), key=lambda one: (-one[1], one[0]))


def _people(table: list[dict[str, Any]], verdicts: Mapping[str, Row]) -> list[dict[str, Any]]:
    """A line an annotator: what they did, and what `consensus` says of them where it knows them."""
    work: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table:
        work[row["annotator"]].append(row)
    unknown: dict[str, Any] = {"correlation": None, "alpha": None, "dice": None, "gold_right": 0, "gold_total": 0, "left_out": []}
    return [
        {
            "name": name,
            "samples": len(mine),
            "seconds": median(row["lead_time_s"] for row in mine),
            "score": fmean(row["score"] for row in mine),
            "painted": fmean(bool(row["defects"]) for row in mine),
        }
        | {key: verdicts.get(name, unknown).get(key) for key in unknown}
        for name, mine in sorted(work.items(), key=lambda one: (-len(one[1]), one[0]))
    ]


def _verdicts(directory: Path) -> dict[str, Any]:
    """The report that `fgr annotate consensus` left beside its table; empty without one."""
    file = directory / "consensus" / "annotators.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
