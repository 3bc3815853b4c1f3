"""Benchmarks of maps: images with masks that people marked, tables or layouts of public sets.

table         columns `image`, `mask`, `prominence` (0 … 1) and, where there, `reference`, `lr`, `subset`, `generator`, `group`
sr-prominence tables of that kind directly in a folder
desra         GENERATOR/{GAN-SR,GT-Mask}/NAME.png and, where there, MSE-SR, DeSRA-Mask, LR
sr-ground     masks_for_markup.json, a table of that kind, beside datasets/SR_PRESET/NAME[@SR@|@LR@|@RF@].png and
              outputs/SR_PRESET/sr_artifacts/NAME.npy.gz

Names of columns are options where a set calls them otherwise. What cannot be used is left out by name, with the reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.image_files import images_in
from fgr.people import table_files

NEEDED = ("image", "mask")
COLUMNS = (*NEEDED, "prominence", "reference", "lr", "subset", "generator", "group")
FORMATS = f"It needs the columns image and mask; optional: {', '.join(COLUMNS[2:])}. --columns mask=NAME,… names them otherwise."
GAN, MARKED, PLAIN, DETECTED = "GAN-SR", "GT-Mask", "MSE-SR", "DeSRA-Mask"
MARKUP = "masks_for_markup.json"


@dataclass(frozen=True, slots=True)
class Marked:
    """A marked region of an image; `maps` are detections that come with the set, by name."""

    image: Path
    mask: Path
    prominence: float = 1.0
    reference: Path | None = None
    subset: str = ""
    generator: str = ""
    group: str = ""
    maps: Mapping[str, Path] = field(default_factory=dict)


@dataclass(slots=True)
class MapBenchmark:
    """Marked regions; `rated` says whether people's prominence is known; `left_out` names what cannot be used, and why."""

    root: Path
    rows: list[Marked] = field(default_factory=list)
    rated: bool = True
    left_out: dict[str, str] = field(default_factory=dict)


def is_of_maps(name: str, columns: Mapping[str, str]) -> bool:
    """Whether `--benchmark` names a benchmark of maps: a layout, or a table with masks."""
    place = Path(name).expanduser()
    if name in LAYOUTS:
        return True
    if place.suffix.lower() not in table_files.SUFFIXES or not place.is_file():
        return False
    try:
        return columns.get("mask", "mask") in table_files.read(place)[0]
    except UserError:
        return False  # a benchmark of scores says what is wrong with its table


def open_map_benchmark(name: str, data: str | None = None, columns: Mapping[str, str] | None = None) -> MapBenchmark:
    """The benchmark `name`, a layout whose images are at `data`, or a table. UserError if nothing of it can be used."""
    columns = columns or {}
    if unknown := [key for key in columns if key not in COLUMNS]:
        raise UserError(f"There is no column '{unknown[0]}' to name in --columns.", f"Known: {', '.join(COLUMNS)}.")
    if name in LAYOUTS:
        if not data:
            raise UserError(f"The benchmark {name} has to be downloaded first.", "Name its folder: --data DIR.")
        root = Path(data).expanduser()
        if not root.exists():
            raise UserError(f"There is no {root}, where {name} is looked for.", "Check the path.")
        found = LAYOUTS[name](root, columns)
    else:
        root = Path(data).expanduser() if data else Path(name).expanduser().parent
        found = MapBenchmark(root)
        _of_table(found, Path(name).expanduser(), columns)
    if not found.rows:
        reasons = [f"{file}: {reason}" for file, reason in list(found.left_out.items())[:3]]
        raise UserError(f"Nothing in the benchmark {name} can be used.", FORMATS if name not in LAYOUTS else None, reasons)
    return found


def _of_table(found: MapBenchmark, path: Path, columns: Mapping[str, str], subset: str = "") -> None:
    if not path.is_file():
        raise UserError(f"There is no benchmark at {path}.", f"Known by name: {', '.join(LAYOUTS)}; or a table. {FORMATS}")
    present, rows = table_files.read(path, FORMATS)
    names = {column: columns.get(column, column) for column in COLUMNS}
    missing = [names[column] for column in COLUMNS if (column in NEEDED or column in columns) and names[column] not in present]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}; it has {', '.join(present)}.", FORMATS)
    found.rated = found.rated and names["prominence"] in present
    seen = {(row.image, row.mask) for row in found.rows}
    for number, row in enumerate(rows):
        values = {column: row.get(name) for column, name in names.items() if name in present or column != "prominence"}
        try:
            one = _marked(found.root, values, subset)
            if (one.image, one.mask) in seen:
                raise ValueError(f"{one.mask} of {one.image} is in the table twice")
        except ValueError as error:
            found.left_out[f"{path.name}, row {number + 1}"] = f"{error}."
            continue
        seen.add((one.image, one.mask))
        found.rows.append(one)


def _marked(root: Path, values: Mapping[str, Any], subset: str) -> Marked:
    """A row of a table. ValueError that says what is wrong with it."""
    image, mask = (_file(root, values[column], column) for column in NEEDED)
    reference = _file(root, values["reference"], "reference") if values["reference"] else None
    share = _share(values["prominence"]) if "prominence" in values else 1.0
    texts = [str(values[column] or "") for column in ("subset", "generator", "group")]
    return Marked(image, mask, share, reference, texts[0] or subset, texts[1], texts[2] or str(image))


def _file(root: Path, value: Any, column: str) -> Path:
    if not value:
        raise ValueError(f"nothing in the column {column}")
    path = root / str(value)
    if not path.is_file():
        raise ValueError(f"the {column} {path} does not exist")
    return path


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"a prominence of {value} is not a share in 0 … 1")
    return share


def _sr_prominence(root: Path, columns: Mapping[str, str]) -> MapBenchmark:
    tables = [root] if root.is_file() else sorted(file for file in root.iterdir() if file.suffix.lower() in table_files.SUFFIXES)
    if not tables:
        raise UserError(f"{root} holds no table.", f"Name a folder with the set's CSV, or the CSV itself. {FORMATS}")
    found = MapBenchmark(root if root.is_dir() else root.parent)
    for table in tables:
        _of_table(found, table, columns, table.stem if len(tables) > 1 else "")
    return found


def _desra(root: Path, columns: Mapping[str, str]) -> MapBenchmark:
    folders = [place for place in (root, *sorted(root.iterdir())) if any((place / name).is_dir() for name in (GAN, MARKED))]
    if not folders:
        raise UserError(f"{root} is not DeSRA's set.", f"It has GENERATOR/{GAN}/ and GENERATOR/{MARKED}/.")
    for place in folders:
        if absent := [name for name in (GAN, MARKED) if not (place / name).is_dir()]:
            raise UserError(f"{place} is incomplete: it has no {absent[0]}.", "Unpack the set again.")
    found = MapBenchmark(root, rated=False)
    for place in folders:
        _desra_generator(found, place)
    return found


def _desra_generator(found: MapBenchmark, place: Path) -> None:
    names = [name for name in (GAN, MARKED, PLAIN, DETECTED) if (place / name).is_dir()]
    files = {name: _by_stem(found, place / name) for name in names}
    for stem, image in files[GAN].items():
        if stem not in files[MARKED]:
            found.left_out[str(image)] = f"an image without a mask in {MARKED}."
            continue
        maps = {DETECTED: files[DETECTED][stem]} if stem in files.get(DETECTED, {}) else {}
        plain = files.get(PLAIN, {}).get(stem)
        generator = place.name if place != found.root else ""
        found.rows.append(Marked(image, files[MARKED][stem], 1.0, plain, "", generator, stem, maps))
    for stem in files[MARKED].keys() - files[GAN].keys():
        found.left_out[str(files[MARKED][stem])] = f"a mask without an image in {GAN}."


def _by_stem(found: MapBenchmark, folder: Path) -> dict[str, Path]:
    """The images of a folder by name without suffix; a second one of a name is named as left out."""
    files: dict[str, Path] = {}
    for file in images_in(folder):
        if files.setdefault(file.stem, file) != file:
            found.left_out[str(file)] = f"of the same name as {files[file.stem].name}."
    return files


def _sr_ground(root: Path, columns: Mapping[str, str]) -> MapBenchmark:
    if not (root / MARKUP).is_file():
        raise UserError(
            f"{root} is incomplete: it has no {MARKUP}, which lists the masks that people refined.", "Download it again."
        )
    found = MapBenchmark(root)
    _of_table(found, root / MARKUP, columns)
    found.rows = [row for row in map(_of_sr_ground, found.rows) if _told(found, row)]
    return found


def _of_sr_ground(row: Marked) -> Marked:
    """What an image's name and folder say: its reference, the SR model, the set's own prediction."""
    name = row.image.stem.partition("@")[0]
    beside = row.image.with_name(f"{name}{row.image.suffix}")
    folder = row.image.parent
    predicted = folder.parent.parent / "outputs" / folder.name / "sr_artifacts" / f"{name}.npy.gz"
    return Marked(
        row.image, row.mask, row.prominence, row.reference or (beside if beside.is_file() and beside != row.image else None),
        row.subset, row.generator or folder.name, name if row.group == str(row.image) else row.group,
        {"SR-Ground prediction": predicted} if predicted.is_file() else {},
    )  # fmt: skip


def _told(found: MapBenchmark, row: Marked) -> bool:
    """Whether a row is of an SR image; if not, it is named."""
    if "@LR@" in row.image.stem or "@RF@" in row.image.stem:
        found.left_out[str(row.image)] = "an input or its bicubic copy, not an SR output."
        return False
    return True


def scene_of(row: Marked) -> str:
    """What splits go by: the group's name, without folders and suffix where it is the image."""
    return Path(row.group).stem


def by_image(rows: list[Marked]) -> Iterator[tuple[Path, list[Marked]]]:
    """The rows of each image, in the order in which images come."""
    images: dict[Path, list[Marked]] = {}
    for row in rows:
        images.setdefault(row.image, []).append(row)
    yield from images.items()


LAYOUTS: dict[str, Callable[[Path, Mapping[str, str]], MapBenchmark]] = {
    "sr-prominence": _sr_prominence,
    "desra": _desra,
    "sr-ground": _sr_ground,
}
