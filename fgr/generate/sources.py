"""Sources of photographs: a folder, a dataset on the disk or on the Hub, installed packages."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.hub_files import is_hub_id

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
PACKAGED = {  # photographs inside installed packages: file, licence, author, as the packages' documentation states them
    "astronaut": ("skimage/data/astronaut.png", "public domain", "NASA"),
    "camera": ("skimage/data/camera.png", "cc0-1.0", "Lav Varshney"),
    "chelsea": ("skimage/data/chelsea.png", "cc0-1.0", "Stefan van der Walt"),
    "china": ("sklearn/datasets/images/china.jpg", "cc-by-2.0", "danielbuechele, flickr.com/photos/danielbuechele/6061409035"),
    "coffee": ("skimage/data/coffee.png", "cc0-1.0", "Rachel Michetti"),
    "flower": ("sklearn/datasets/images/flower.jpg", "cc-by-2.0", "vultilion, flickr.com/photos/vultilion/6056698931"),
    "hubble_deep_field": ("skimage/data/hubble_deep_field.jpg", "public domain", "NASA"),
    "rocket": ("skimage/data/rocket.jpg", "cc0-1.0", "SpaceX"),
}
EMBEDDED = {  # by the name of the source
    "embedded": ("astronaut", "camera", "chelsea", "china", "coffee", "flower", "rocket"),
    "skimage": ("astronaut", "chelsea", "coffee", "hubble_deep_field", "rocket"),
}
IMAGE_COLUMNS = ("image", "reference", "hr", "gt")


@dataclass(frozen=True, slots=True)
class EncodedPhoto:
    """A photograph not yet decoded: a file's path, or its bytes. `name` is unique in its source and has no suffix."""

    name: str
    content: Path | bytes
    license: str
    attribution: str

    def read(self) -> bytes:
        """The encoded bytes. OSError if the file cannot be read."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def encoded_photos(path: str, *, license: str, attribution: str) -> Iterator[EncodedPhoto]:
    """Stream a source's photographs, in an order that does not change.

    `path` is `embedded` (seven photographs inside scikit-image and scikit-learn; `skimage`: five of the first alone), a folder of
    photographs, a dataset directory, or a Hub dataset id, optionally `ID:SPLIT` or `ID:CONFIG/SPLIT` (default: the first
    config's train split). These two names win over a folder, a folder over a Hub id. In a folder, `metadata.jsonl` or
    `metadata.csv` with a `file_name` column may give `license` and `attribution`; otherwise the arguments hold.
    UserError: no such source, an empty folder, a dataset without images, a Hub that cannot be reached.
    """
    if path in EMBEDDED:
        return _embedded(path)
    folder = Path(path).expanduser()
    if not folder.exists() and ":" in path and Path(path.rpartition(":")[0]).expanduser().is_dir():
        return _dataset(str(Path(path).expanduser()), license, attribution)
    if folder.is_dir() and (any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))):
        return _dataset(str(folder), license, attribution)
    if folder.is_dir():
        return _folder(folder, license, attribution)
    if folder.exists() or not is_hub_id(path.partition(":")[0]):
        raise UserError(
            f"There is no folder of photographs '{path}'.", "Give a folder, a Hub dataset id (org/name), or embedded."
        )
    return _dataset(path, license, attribution)


def _embedded(name: str) -> Iterator[EncodedPhoto]:
    for photo in EMBEDDED[name]:
        file, license, author = PACKAGED[photo]
        package, _, inside = file.partition("/")
        yield EncodedPhoto(photo, Path(str(files(package))) / inside, license, author)


def _folder(folder: Path, license: str, attribution: str) -> Iterator[EncodedPhoto]:
    files = sorted(
        path
        for root, _, names in os.walk(folder)
        for name in names
        if (path := Path(root) / name).suffix.lower() in SUFFIXES and not name.startswith(".")
    )
    if not files:
        raise UserError(f"The folder {folder} holds no photographs.", f"It needs files ending in {', '.join(SUFFIXES)}.")
    stated = _metadata(folder)
    taken: set[str] = set()
    for file in files:
        relative = file.relative_to(folder)
        own = stated.get(relative.as_posix(), {})
        name = relative.with_suffix("").as_posix()
        name = relative.as_posix() if name in taken else name
        taken.add(name)
        yield EncodedPhoto(name, file, own.get("license") or license, own.get("attribution") or attribution)


def _metadata(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of `metadata.jsonl` or `metadata.csv` (the Hub's ImageFolder convention) by their file_name."""
    rows: list[dict[str, Any]] = []
    for path in (folder / "metadata.jsonl", folder / "metadata.csv"):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".jsonl":
                rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            else:
                rows = list(csv.DictReader(text.splitlines()))
            return {str(row["file_name"]): row for row in rows}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} cannot be read: each row needs a file_name.", "Correct it or move it away.") from None
    return {}


def _dataset(path: str, license: str, attribution: str) -> Iterator[EncodedPhoto]:
    name, _, part = path.rpartition(":") if ":" in path else (path, "", "")
    config, _, split = part.rpartition("/")
    rows, column = _open_dataset(name, config or None, split or "train")
    for number, row in enumerate(rows):
        cell = row[column]
        content = cell.get("bytes") or (Path(cell["path"]) if cell.get("path") else b"")
        stem = Path(str(cell.get("path") or row.get("source_id") or "")).stem
        label = f"{number:08d}-{stem}" if stem else f"{number:08d}"
        yield EncodedPhoto(label, content, row.get("license") or license, row.get("attribution") or attribution)


def _open_dataset(name: str, config: str | None, split: str) -> tuple[Any, str]:
    import datasets

    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        features = rows.features or rows._resolve_features().features
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetNotFoundError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The dataset '{name}' cannot be opened: {reason}",
            "Check the name and the network; for a private or gated set log in with `hf auth login`; or give a folder.",
        ) from None
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if not images:
        raise UserError(
            f"The dataset '{name}' has no image column, only {', '.join(features)}.", "Choose a dataset of photographs."
        )
    column = next((wanted for wanted in IMAGE_COLUMNS if wanted in images), images[0])
    others = [other for other in features if other != column and other not in ("license", "attribution", "source_id")]
    return rows.remove_columns(others).cast_column(column, datasets.Image(decode=False)), column
