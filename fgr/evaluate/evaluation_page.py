"""The page of `fgr evaluate --html`: tables, pictures under a swipe, distributions, every image."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgr import atomic
from fgr.evaluate.show import PUBLISHED, Table
from fgr.report import charts, swipe
from fgr.report.section import Section, render

APART = "disagreement"  # the column by which images are in order
PICTURES = 24  # scenes with pictures, without --pictures
MOST_ROWS = 2000  # of the table of images
MOST_CHARTS, MOST_SERIES = 6, len(charts.COLOURS)
HIGHER = (
    "srcc", "plcc", "plcc_logistic", "krcc", "srcc_within", "accuracy", "first", "gain", "share", "iou", "precision", "recall",
    "pixel_ap", "pixel_auc", "ap", "auc", "ap_mask", "cc", "sim", "nss", "f1@0.1",
)  # fmt: skip
LOWER = ("mse", "kld")
NOT_RIVALS = ("Map by", "Pairs in order by", "By ", "Maps that should", "Scores of clean")  # titles of tables of one model
NUMBER = re.compile(r"^[-+−]?\d+(\.\d+)?(e[-+]\d+)?")


class Place(NamedTuple):
    """Where the swipe shows a row: the scene's number, and the pictures on its two sides."""

    scene: int
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Images:
    """What a page shows of single images: `rows`, the worst first, of which `columns` are numbers and `series` names the group in
    distributions; `scenes` of the first rows, and each row's `places` in them; `order` says in words what comes first."""

    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[str]
    series: str
    order: str
    scenes: Sequence[swipe.Scene] = field(default_factory=list)
    places: Sequence[Place | None] = field(default_factory=list)
    maps_shown: bool = False


def write(path: Path, title: str, tables: Iterable[Table], notes: Sequence[str] = (), images: Images | None = None) -> None:
    """Write the page: one file that asks for nothing from elsewhere."""
    sections = [Section("Figures", render("evaluation_tables.html", tables=[marked(*one) for one in tables], notes=notes))]
    if images is not None and images.rows:
        if images.scenes:
            sections.append(Section("Compare", swipe.markup(images.scenes, maps_shown=images.maps_shown)))
        sections += [Section("Distributions", _distributions(images)), Section("Images", _table(images))]
        sections.append(Section("About", render("evaluation_about.html", quality=swipe.QUALITY, largest=swipe.LARGEST)))
    atomic.write_text(path, render("page.html", title=title, sections=sections, style=swipe.style(), script=swipe.script()))


class Cell(NamedTuple):
    """A table's cell: its text, and whether it is the best of its column."""

    text: str
    best: bool


def marked(title: str, header: list[str], rows: list[list[str]]) -> tuple[str, list[str], list[tuple[list[Cell], bool]]]:
    """The table with the best of each column marked, and each row with whether others published it."""
    best = [set[int]() for _ in header]
    for place, name in enumerate(header):
        sign = 0 if title.startswith(NOT_RIVALS) or len(rows) < 2 else _direction(name)
        values = {number: value for number, row in enumerate(rows) if sign and (value := _value(row[place])) is not None}
        if len(set(values.values())) > 1:
            top = max(sign * value for value in values.values())
            best[place] = {number for number, value in values.items() if sign * value == top}
    marked = [[Cell(text, number in best[place]) for place, text in enumerate(row)] for number, row in enumerate(rows)]
    return title, header, [(cells, row[0].endswith(PUBLISHED)) for cells, row in zip(marked, rows, strict=True)]


def _direction(column: str) -> int:
    """1: larger is better, −1: smaller, 0: neither, or not a figure."""
    if column.endswith("↓") or column in LOWER:
        return -1
    return int(column.endswith("↑") or column in HIGHER or re.fullmatch(r".+ \(\d+\)", column) is not None)


def _value(text: str) -> float | None:
    found = NUMBER.match(text)
    return float(found[0].replace("−", "-")) if found else None


def _distributions(images: Images) -> str:
    """A histogram of each figure, by series; small series together."""
    counts: dict[str, int] = {}
    for row in images.rows:
        counts[str(row[images.series])] = counts.get(str(row[images.series]), 0) + 1
    names = sorted(counts, key=lambda name: -counts[name])
    shown = names if len(names) <= MOST_SERIES else names[: MOST_SERIES - 1]
    others = [] if len(shown) == len(names) else ["others"]
    panels = []
    for column in [one for one in images.columns if one != APART][:MOST_CHARTS]:
        values: dict[str, list[float]] = {name: [] for name in (*shown, *others)}
        for row in images.rows:
            name = str(row[images.series])
            if isinstance(row.get(column), int | float) and math.isfinite(row[column]):
                values[name if name in values else "others"].append(float(row[column]))
        finite = [value for series in values.values() for value in series]
        if finite:
            low, high = min(finite), max(finite)
            chart = charts.histogram(values, low, high if high > low else low + 1, x=column, y="rows")
            panels.append((column, f"{len(finite)} values, {np.mean(finite):.3g} on the mean", chart))
    return render("panels.html", panels=panels, legend=charts.legend([name or "(none)" for name in (*shown, *others)]))


def _table(images: Images) -> str:
    files = [str(row["image"]) for row in images.rows]
    folder = f"{os.path.commonpath(files)}/" if len(set(files)) > 1 and all(map(os.path.isabs, files)) else ""
    rows = [
        {"facts": [str(row[name]).removeprefix(folder) for name in _texts(images)],
         "numbers": [_number(row.get(name)) for name in images.columns],
         "place": images.places[number] if number < len(images.places) else None}
        for number, row in enumerate(images.rows[:MOST_ROWS])
    ]  # fmt: skip
    return render(
        "evaluation_images.html", rows=rows, texts=_texts(images), columns=images.columns, order=images.order,
        left_out=max(0, len(images.rows) - MOST_ROWS), pictured=bool(images.scenes),
    )  # fmt: skip


def _texts(images: Images) -> list[str]:
    """The columns that are not numbers, as far as they say anything."""
    names = [name for name in images.rows[0] if name not in (*images.columns, "photo", "picture")]
    return [name for name in names if any(row[name] not in ("", None) for row in images.rows)]


def _number(value: Any) -> tuple[str, float]:
    """A number's text and what it sorts by."""
    known = isinstance(value, int | float) and value == value
    return (f"{value:.4g}", float(np.clip(value, -1e30, 1e30))) if known else ("–", -1e31)
