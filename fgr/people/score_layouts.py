"""Public sets of scores by people, as they come, by name.

disrqad         scores/mos.csv (img_name, mos), hr/, sr[_x2|_x4]/METHOD_xN_SOURCE_DEGRADATION_xN.png
vha-bench       a table gt, sr, image_id, method, human_score (higher = more hallucination), its images as files or inside it
qualisr-set120  labels.csv (test_case, method, score, image), hr/, sr/METHOD/
isrgen-qa       train.xlsx, val.xlsx, test.xlsx (Image_name, HR_ref, MOS), HR/, SR/METHOD_xN_SOURCExN.png
refsr-18k       tables image, rank[, group], in the folder or in each group's; a row may hold lists, those of a group

Names of columns are options where a set calls them otherwise. What cannot be used is left out by name, with the reason.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from fgr.errors import UserError
from fgr.image_files import images_below
from fgr.people import table_files
from fgr.people.opinions import (
    COLUMNS,
    FORMATS,
    EmbeddedImage,
    RatedImage,
    ScoreBenchmark,
    Source,
    family_of,
    finite,
    of_sriqa_bench,
    of_table,
)  # fmt: skip

NEEDED = ("image", "mos", "rank", "group")  # without which a row says nothing
NAMED = re.compile(r"(?P<generator>.+?)_x\d_(?P<source>.+)", re.IGNORECASE)
DEGRADED = re.compile(r"_(blur|jpeg|noise|resized)_x\d$", re.IGNORECASE)
TIMES = re.compile(r"x\d$")


def open_score_benchmark(name: str | Path, data: str | None = None, columns: Mapping[str, str] | None = None) -> ScoreBenchmark:
    """The benchmark `name`: a layout whose folder is `data`, a table, or SRIQA-Bench's folder. UserError if nothing of it can be
    used, and for a table that names images that do not exist."""
    columns = columns or {}
    if unknown := [key for key in columns if key not in COLUMNS]:
        raise UserError(f"There is no column '{unknown[0]}' to name in --columns.", f"Known: {', '.join(COLUMNS)}.")
    layout = LAYOUTS.get(str(name).lower())
    if layout is None:
        place = Path(name).expanduser()
        if place.is_dir():
            return of_sriqa_bench(place)
        if not place.is_file():
            raise UserError(f"There is no benchmark at {place}.", f"Known by name: {', '.join(LAYOUTS)}; or a table. {FORMATS}")
        return of_table(place, Path(data).expanduser() if data else place.parent, columns)
    if not data:
        raise UserError(f"The benchmark {name} has to be downloaded first.", "Name its folder: --data DIR.")
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UserError(f"There is no folder {root}, where {name} is looked for.", "Check the path.")
    return _of_layout(str(name).lower(), layout, root, columns)


class Folder:
    """The images below a folder, found by their path in it, or by a name alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _stems(self) -> dict[str, list[Path]]:
        stems: dict[str, list[Path]] = {}
        for file in images_below(self.root):
            stems.setdefault(file.stem.casefold(), []).append(file)
        return stems

    def find(self, value: Any, *below: str) -> Path | None:
        """The image that a table calls `value`, in one of the folders `below` the root; None if there is none or several."""
        text = str(value or "").replace("\\", "/")
        if not text:
            return None
        if (exact := self.root / text).is_file():
            return exact
        stem = Path(text).stem if Path(text).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".bmp") else Path(text).name
        found = [
            file
            for file in self._stems.get(stem.casefold(), [])
            if not below or file.relative_to(self.root).parts[0].casefold().startswith(below)
        ]
        return found[0] if len(found) == 1 else None


class Layout(NamedTuple):
    """How a public set is read: tables in its folder (the first pattern that finds some), their columns, and what a row says.

    `facts` gives of the folder's images and a row, under our names, the scene, generator and reference. `better`: −1 where
    people's figure rises as images get worse.
    """

    tables: Sequence[str]
    columns: Mapping[str, str]
    facts: Callable[[Folder, Mapping[str, Any]], tuple[Source | None, str, str, Source | None]]
    better: int = 1
    needs: Sequence[str] = ()  # folders


def _of_layout(name: str, layout: Layout, root: Path, columns: Mapping[str, str]) -> ScoreBenchmark:
    names = {column: columns.get(column, layout.columns.get(column, column)) for column in COLUMNS}
    needed = [names[column] for column in layout.columns if column in NEEDED]
    opinions = names["mos"] if "mos" in layout.columns else f"−{names['rank']}"
    found = ScoreBenchmark(name, opinions=opinions if layout.better > 0 else f"−{opinions}")
    folder, seen = Folder(root), set[Source]()
    for table in _tables(name, layout, root):
        present, records = table_files.read(table, FORMATS)
        if missing := [one for one in dict.fromkeys([*needed, *columns.values()]) if one not in present]:
            raise UserError(f"{table} has no column {', '.join(missing)}; it has {', '.join(present)}.", FORMATS)
        for number, record in enumerate(_exploded(records, names)):
            values = {column: record.get(one) for column, one in names.items()}
            _add(found, layout, folder, values | {"row": f"{table.relative_to(root)}, row {number + 1}"}, seen)
    if not found.rows:
        reasons = [f"{row}: {reason}" for row, reason in list(found.left_out.items())[:3]]
        raise UserError(f"Nothing in the benchmark {name} at {root} can be used.", FORMATS, reasons)
    return found


def _tables(name: str, layout: Layout, root: Path) -> list[Path]:
    """The set's tables. UserError for a folder that is incomplete."""
    inside = ", ".join(sorted(one.name for one in root.iterdir())[:8]) or "nothing"
    absent = [f"folder {folder}/" for folder in layout.needs if not any(root.glob(f"{folder}*/"))]
    tables = next((found for pattern in layout.tables if (found := sorted(root.glob(pattern)))), [])
    absent += [] if tables else [layout.tables[0]]
    if absent:
        raise UserError(f"{root} is incomplete: it has no {absent[0]}; it has {inside}.", f"Download {name} again.")
    return tables


def _add(found: ScoreBenchmark, layout: Layout, folder: Folder, values: Mapping[str, Any], seen: set[Source]) -> None:
    """Add a row of a set's table, or say why it is left out."""
    if (values["mos"] if values["mos"] is not None else values["rank"]) in (None, ""):
        found.hidden.append(str(values["row"]))
        return
    try:
        row = _rated(layout, folder, values)
        if row.image in seen:
            raise ValueError(f"{row.image} is in the table twice")
    except ValueError as error:
        found.left_out[str(values["row"])] = f"{error}."
        return
    seen.add(row.image)
    found.rows.append(row)


def _exploded(records: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> Iterable[Mapping[str, Any]]:
    """A row of lists, an entry an image, as a row an image."""
    for record in records:
        images = record.get(names["image"])
        if not isinstance(images, list):
            yield record
            continue
        for number in range(len(images)):
            yield {key: value[number] if isinstance(value, list) and len(value) == len(images) else value
                   for key, value in record.items()}  # fmt: skip


def _rated(layout: Layout, folder: Folder, values: Mapping[str, Any]) -> RatedImage:
    """A row of a set's table. ValueError that says what is wrong with it."""
    worse = values["mos"] is None
    opinion = finite(values["rank"] if worse else values["mos"])
    if opinion is None:
        raise ValueError(f"'{values['rank'] if worse else values['mos']}' is not a number")
    image, scene, generator, reference = layout.facts(folder, values)
    if image is None:
        raise ValueError(f"the image {values['image']} is not in the folder, or there are several")
    family = str(values["family"] or family_of(generator))
    return RatedImage(image, -opinion if worse else layout.better * opinion, scene, generator, family, reference)


def _embedded(value: Any, row: Any, column: str) -> EmbeddedImage | None:
    data = value.get("bytes") if isinstance(value, Mapping) else None
    return EmbeddedImage(f"{row}, {column}", data) if data else None


def _either(folder: Folder, values: Mapping[str, Any], column: str) -> Source | None:
    value = values[column]
    if (inside := _embedded(value, values["row"], column)) is not None:
        return inside
    path = value.get("path") if isinstance(value, Mapping) else value
    beside = Path(values["row"].rpartition(", row")[0]).parent / str(path or "")
    return folder.find(str(beside) if path else path) or folder.find(path)


def _by_name(folder: Folder, values: Mapping[str, Any]) -> tuple[Source | None, str, str, Source | None]:
    """What DISRQAD's and ISRGen-QA's names say: METHOD_xN_SOURCE…; DISRQAD's sources are a five-digit id."""
    image = folder.find(values["image"], "sr")
    parts = NAMED.fullmatch(Path(str(values["image"])).stem)
    if parts is None:
        return image, str(values["group"] or values["image"]), str(values["generator"] or ""), None
    source = DEGRADED.sub("", parts["source"])
    source = TIMES.sub("", source) if values["reference"] else source
    number = re.search(r"(?<!\d)\d{5}(?!\d)", source)
    reference = folder.find(values["reference"] or source, "hr")
    return image, str(values["group"] or (number[0] if number else source)), parts["generator"], reference


def _by_columns(folder: Folder, values: Mapping[str, Any]) -> tuple[Source | None, str, str, Source | None]:
    image = _either(folder, values, "image")
    reference = _either(folder, values, "reference")
    parent = image.parent.name if isinstance(image, Path) else str(values["image"])
    return image, str(values["group"] or parent), str(values["generator"] or ""), reference


def _by_case(folder: Folder, values: Mapping[str, Any]) -> tuple[Source | None, str, str, Source | None]:
    """QualiSR's: a case and a method, and perhaps the image's path."""
    case, method = str(values["group"]), str(values["generator"] or "")
    paths = [values["image"], *(f"sr/{name}/{case}.png" for name in (method, method.upper(), method.lower()))]
    image = next((found for path in paths if path and (found := folder.find(path)) is not None), None)
    return image, case, method, folder.find(case, "hr")


LAYOUTS: dict[str, Layout] = {
    "disrqad": Layout(("scores/mos*.csv", "scores/*.csv", "*.csv"), {"image": "img_name", "mos": "mos"}, _by_name,
                      needs=("sr",)),
    "vha-bench": Layout(
        ("*.csv", "*.parquet", "data/*.parquet", "*.jsonl"),
        {"image": "sr", "mos": "human_score", "group": "image_id", "reference": "gt", "generator": "method"}, _by_columns, -1,
    ),
    "qualisr-set120": Layout(
        ("labels.csv",), {"mos": "score", "group": "test_case", "generator": "method"}, _by_case, needs=("sr",)
    ),
    "isrgen-qa": Layout(
        ("*.xlsx", "*.csv"), {"image": "Image_name", "mos": "MOS", "reference": "HR_ref"}, _by_name, needs=("SR", "HR")
    ),
    "refsr-18k": Layout(
        ("*.csv", "*.parquet", "*.jsonl", "*.json", "*/*.json", "*/*.csv"), {"image": "image", "rank": "rank"}, _by_columns,
    ),
}  # fmt: skip
