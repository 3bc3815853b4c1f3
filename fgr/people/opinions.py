"""People's opinions of images, and tables and folders of one's own that hold them.

table        columns `image`, `mos` (larger = better) or `rank` (1 = best), and, where there, `group` (images of one scene),
             `reference`, `generator`, `family`; or `left`, `right`, `choice`, and, where there, `group`, `reference`
SRIQA-Bench  images/METHOD/NAME_METHOD.png and MOS/NAME.txt with lines FILE,SCORE
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgr.errors import UserError
from fgr.image_files import MAX_PIXELS, ImageFileError, read_image
from fgr.images.photos import PhotoError, decode_photo
from fgr.people import table_files

COLUMNS = ("image", "mos", "rank", "group", "reference", "generator", "family")
CHOICES = {"left": 1.0, "right": 0.0, "tie": 0.5}
FORMATS = (
    "It needs the columns image and mos (or group, image and rank), or left, right and choice. --columns image=NAME,… names them "
    "otherwise."
)
DIFFUSION = (
    "resshift", "sinsr", "seesr", "supir", "pasd", "invsr", "codsr", "dit4sr", "passionsr", "stablesr", "diffbir", "osediff",
    "pure", "vosr", "dreamclear", "ldm", "s3diff", "tsdsr", "pisasr", "addsr", "ccsr", "faithdiff",
)  # fmt: skip
CLASSIC = ("swinir", "realsr", "hat", "realesrgan", "bsrgan", "esrgan", "ldl", "bicubic", "atd", "edsr", "rcan", "span", "rlfn")


class EmbeddedImage(NamedTuple):
    """An image inside a table, encoded."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return self.name


Source = Path | EmbeddedImage


class RatedImage(NamedTuple):
    """An image and people's mean opinion of it, larger = better; `scene` is what it shows, `family` diffusion or classic."""

    image: Source
    mos: float
    scene: str
    generator: str = ""
    family: str = ""
    reference: Source | None = None


class RatedPair(NamedTuple):
    """Numbers of the left and the right image, the share of people for the left, the group."""

    left: int
    right: int
    share: float
    group: str


@dataclass(frozen=True, slots=True)
class ScoreBenchmark:
    """Rated images, or images without opinions and `pairs` of them.

    `left_out` names what cannot be used, and why; `hidden` the rows whose opinions are not public; `opinions` what they are.
    """

    name: str
    rows: list[RatedImage] = field(default_factory=list)
    pairs: list[RatedPair] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    opinions: str = "mos"


def read_source(source: Source) -> np.ndarray:
    """uint8 (H, W, 3). ImageFileError."""
    if isinstance(source, Path):
        return read_image(source)
    try:
        return decode_photo(source.data, MAX_PIXELS)
    except PhotoError as error:
        raise ImageFileError(f"{source} cannot be read: {error}", reason=error.reason) from None


def family_of(generator: str) -> str:
    """diffusion or classic, for SR models that are known; empty for others."""
    word = re.sub(r"[^a-z0-9]", "", generator.lower())
    for family, names in (("diffusion", DIFFUSION), ("classic", CLASSIC)):
        if word.startswith(names):
            return family
    return ""


def of_table(path: Path, root: Path, columns: Mapping[str, str]) -> ScoreBenchmark:
    """A table of one's own: a mistake in it is an error, not a row left out."""
    present, rows = table_files.read(path, f"A table is CSV, Parquet, JSON or XLSX. {FORMATS}")
    names = {column: columns.get(column, column) for column in COLUMNS}
    if not rows:
        raise UserError(f"{path} has no rows.", FORMATS)
    if {"left", "right", "choice"} <= set(present):
        return _expect_images(_pairs(path, root, rows), path)
    if names["image"] not in present or not {names["mos"], names["rank"]} & set(present):
        raise UserError(f"{path} has the columns {', '.join(present)}.", FORMATS)
    found = ScoreBenchmark(path.name, opinions=names["mos"] if names["mos"] in present else f"−{names['rank']}")
    for number, row in enumerate(rows):
        values = {column: row.get(name) for column, name in names.items()}
        reference = root / str(values["reference"]) if values["reference"] else None
        generator = str(values["generator"] or "")
        found.rows.append(
            RatedImage(
                root / str(values["image"]), _opinion(path, values), str(values["group"] or number), generator,
                str(values["family"] or family_of(generator)), reference,
            )
        )  # fmt: skip
    return _expect_images(found, path)


def _opinion(path: Path, values: Mapping[str, Any]) -> float:
    return -_number(path, values["rank"], "rank") if values["mos"] is None else _number(path, values["mos"], "mos")


def _expect_images(found: ScoreBenchmark, path: Path) -> ScoreBenchmark:
    files = [source for row in found.rows for source in (row.image, row.reference) if isinstance(source, Path)]
    missing = [file for file in dict.fromkeys(files) if not file.is_file()]
    if missing:
        raise UserError(
            f"{path} names {len(missing)} images that do not exist, for example {missing[0]}.",
            "Paths are relative to the table, or to --data.",
        )
    return found


def _pairs(path: Path, root: Path, rows: list[dict[str, Any]]) -> ScoreBenchmark:
    numbers: dict[str, int] = {}
    references: dict[int, Path] = {}
    pairs = []
    for line, row in enumerate(rows):
        left, right = (numbers.setdefault(str(row[side]), len(numbers)) for side in ("left", "right"))
        if row.get("reference"):
            references |= dict.fromkeys((left, right), root / str(row["reference"]))
        pairs.append(RatedPair(left, right, _choice(path, row["choice"]), str(row.get("group", line))))
    images = [RatedImage(root / name, 0.0, "", reference=references.get(number)) for name, number in numbers.items()]
    return ScoreBenchmark(path.name, images, pairs)


def _choice(path: Path, value: Any) -> float:
    if str(value).lower() in CHOICES:
        return CHOICES[str(value).lower()]
    share = _number(path, value, "choice")
    if not 0 <= share <= 1:
        raise UserError(f"{path}: the choice {value} is neither left, right or tie nor a share in 0 … 1.", FORMATS)
    return share


def _number(path: Path, value: Any, column: str) -> float:
    number = finite(value)
    if number is None:
        raise UserError(f"{path}: '{value}' in the column {column} is not a number.", FORMATS)
    return number


def finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def of_sriqa_bench(folder: Path) -> ScoreBenchmark:
    labels = sorted((folder / "MOS").glob("*.txt"))
    if not labels or not (folder / "images").is_dir():
        raise UserError(
            f"{folder} is not a known benchmark.",
            f"SRIQA-Bench has images/METHOD/ and MOS/NAME.txt; other public sets are named, with --data DIR. {FORMATS}",
        )
    found = ScoreBenchmark(folder.name)
    for file in labels:
        original = folder / "images" / "Original" / f"{file.stem}_Original.png"
        for line in file.read_text(encoding="utf-8").split("\n"):
            name, score = [*line.replace(",", " ").split(), "", ""][:2]
            if name:
                method = Path(name).stem.rpartition("_")[2]
                found.rows.append(
                    RatedImage(
                        folder / "images" / method / name, _number(file, score, "score"), file.stem, method, family_of(method),
                        original if original.is_file() else None,
                    )
                )  # fmt: skip
    return _expect_images(found, folder)
