"""Which images a page shows, and their pictures: the worst disagreements first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fgr.evaluate.evaluation_page import APART, Images, Place
from fgr.metrics.ranks import disagreement
from fgr.report.swipe import Picture, Scene, map_uri, picture_uri

MOST_PICTURES = 14  # of a scene
FACTS = ("image", "scene", "generator", "family", "photo", "system", "mask", "subset", "group", "reference", "picture")
Row = dict[str, Any]
Pictures = Callable[[str, Sequence[Row]], Sequence[Picture]]  # a scene's key and its rows, the worst first → its pictures


def of_rows(
    rows: Sequence[Row], scorer: str, against: str, series: str, key: str, name: str, pictures: Pictures, limit: int,
    maps_shown: bool = False, better: tuple[int, int] = (1, 1),
) -> Images:  # fmt: skip
    """The images of `rows`, in the order of disagreement between the columns `scorer` and `against` (each larger = better, or by
    `better`), with pictures of the first `limit` scenes (their names in the column `key`). `name`: the column that names a
    picture. Without `against` those that `scorer` likes least come first."""
    columns = [one for one in rows[0] if one not in FACTS and any(isinstance(row.get(one), int | float) for row in rows)]
    values = better[0] * np.array([float(row.get(scorer, np.nan)) for row in rows])
    order = f"The worst by {scorer} first."
    shown, priority = [dict(row) for row in rows], np.nan_to_num(values, nan=np.inf)
    if against:
        opinions = better[1] * np.array([float(row.get(against, np.nan)) for row in rows])
        known = np.isfinite(values) & np.isfinite(opinions)
        apart = np.full(len(rows), np.nan)
        apart[known] = disagreement(values[known], opinions[known])
        for row, value in zip(shown, apart, strict=True):
            row[APART] = float(value)
        columns = [APART, *columns]
        priority = -np.abs(np.nan_to_num(apart))
        order = (
            f"Worst disagreement between {scorer} and {against} first: + where {scorer} places an image higher among all "
            f"(1: first instead of last)."
        )
    shown = [shown[number] for number in np.argsort(priority, kind="stable")]
    chosen = list(dict.fromkeys(str(row[key]) for row in shown))[:limit]
    scenes = [Scene(scene, list(pictures(scene, [row for row in shown if str(row[key]) == scene]))) for scene in chosen]
    places = [_place(row, name, chosen.index(str(row[key])), scenes) if str(row[key]) in chosen else None for row in shown]
    return Images(shown, columns, series, order, scenes, places, maps_shown)


def _place(row: Row, name: str, number: int, scenes: Sequence[Scene]) -> Place:
    """The row's picture on the right; on the left the scene's first other one."""
    names = [picture.name for picture in scenes[number].pictures]
    own = str(row.get(name, ""))
    right = own if own in names else names[-1]
    return Place(number, next((one for one in names if one != right), right), right)


def picture(name: str, image: np.ndarray, map_: np.ndarray | None = None, **figures: Any) -> Picture:
    """A picture with its map, if any, and figures as its note."""
    note = " · ".join(f"{key} {value:.3g}" for key, value in figures.items() if isinstance(value, int | float) and value == value)
    return Picture(name, picture_uri(image), None if map_ is None else map_uri(map_), note)


def scaled(map_: np.ndarray, top: float = 0.0) -> np.ndarray:
    """A map of any scale in 0 … 1: 1 is `top`, or its own largest values."""
    top = top or float(np.percentile(map_, 99.5)) or 1.0
    return np.clip(map_ / top, 0, 1)


def named_rows(rows: Sequence[Mapping[str, Any]], column: str, stem: Callable[[Mapping[str, Any]], str]) -> list[Row]:
    """The rows with a column `column` that names each within its scene: by `stem`, with a number where it would not be unique."""
    seen: dict[tuple[str, str], int] = {}
    found = []
    for row in rows:
        text = stem(row)
        count = seen[(str(row.get("scene")), text)] = seen.get((str(row.get("scene")), text), 0) + 1
        found.append({**row, column: text if count == 1 else f"{text} {count}"})
    return found
