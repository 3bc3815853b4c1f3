"""Sources of photographs: a folder, a dataset on the disk or on the Hub, installed packages."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from fgr.dataset import cells, manifest
from fgr.dataset.damage import dataset_error
from fgr.dataset.tables import parquet_files
from fgr.errors import UserError
from fgr.generate.source_metadata import STATED, column_as_text, read_metadata, stated
from fgr.hub_files import folder_or_hub
from fgr.image_files import KNOWN_SUFFIXES, ImageFileError, list_images, read_file

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
NOT_NEEDED = "not_needed"  # photographs beyond the limit
IMAGE_COLUMNS = ("image", "reference", "hr", "gt")


@dataclass(frozen=True, slots=True)
class EncodedPhoto:
    """A photograph not yet decoded: a file's path, or its bytes, or None where a row has none; then `lack` says what it has.

    `name` is unique in its source and has no suffix.
    """

    name: str
    content: Path | bytes | None
    license: str
    attribution: str
    lack: str = ""

    @property
    def place(self) -> str:
        """The file, or the row's name."""
        return str(self.content) if isinstance(self.content, Path) else self.name

    def read(self) -> bytes:
        """The encoded bytes. ImageFileError if the file cannot be read, or the row has no bytes."""
        if self.content is None:
            raise ImageFileError(f"the row has {self.lack}.", "Images must be embedded in the Parquet files.", "no_image")
        return self.content if isinstance(self.content, bytes) else read_file(self.content)


@dataclass(frozen=True)
class PhotoSource:
    """A source's photographs, streamed in an order that does not change, and what is known before any is decoded.

    `count` is their number, where it is known, and at most `limit`; `left_out` counts the files that are no photographs by
    reason, and those beyond the limit; `notes` are sentences for the user.
    """

    photos: Iterator[EncodedPhoto]
    count: int | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()


def open_source(path: str, *, license: str, attribution: str, limit: int | None = None, asking: bool = True) -> PhotoSource:
    """Open a source of photographs.

    `path` is `embedded` (seven photographs inside scikit-image and scikit-learn; `skimage`: five of the first alone), a folder of
    photographs, a dataset directory, or a Hub dataset id, optionally `ID:SPLIT` or `ID:CONFIG/SPLIT` (default: the first
    config's train split). These two names win over a folder, a folder over a Hub id. In a folder, `metadata.jsonl` or
    `metadata.csv` with a `file_name` column may give `license` and `attribution`; otherwise the arguments hold. At most `limit`
    photographs are given: of a folder those whose names have the lowest digests, of a dataset the first. Without `asking` the
    Hub is not asked whether it has the dataset.
    UserError: no such source, an empty folder, a dataset without images, a Hub that cannot be reached.
    """
    if path in EMBEDDED:
        return PhotoSource(islice(_embedded(path), limit), min(len(EMBEDDED[path]), limit or len(EMBEDDED[path])))
    folder = Path(path).expanduser()
    if not folder.exists() and ":" in path and Path(path.rpartition(":")[0]).expanduser().is_dir():
        return _dataset(str(Path(path).expanduser()), license, attribution, limit)
    if folder.is_dir() and _tables(folder):
        manifest.expect_finished(folder)
        return _dataset(str(folder), license, attribution, limit)
    if folder.is_dir():
        return _folder(folder, license, attribution, limit)
    hint = "Give a folder of photographs, a Hub dataset id (org/name), or embedded."
    folder_or_hub(path.partition(":")[0], "source", "dataset", hint, asking)
    return _dataset(path, license, attribution, limit)


def _embedded(name: str) -> Iterator[EncodedPhoto]:
    for photo in EMBEDDED[name]:
        file, license, author = PACKAGED[photo]
        package, _, inside = file.partition("/")
        yield EncodedPhoto(photo, Path(str(files(package))) / inside, license, author)


def _folder(folder: Path, license: str, attribution: str, limit: int | None) -> PhotoSource:
    table, rows = read_metadata(folder)
    found = list_images(folder, known=[table] if table else [])
    notes = [note] if (note := found.note(folder)) else []
    if not found.files:
        raise UserError(f"The folder {folder} holds no photographs.", KNOWN_SUFFIXES, notes)
    photographs = {file.relative_to(folder).as_posix(): file for file in found.files}
    unmatched = sorted(rows.keys() - photographs.keys())
    if unmatched:
        notes.append(f"{table}: {len(unmatched)} of {len(rows)} rows match no photograph, for example {unmatched[0]!r}.")
    default = {"license": license, "attribution": attribution}
    chosen = set(_drawn(photographs, limit))
    beyond = Counter({NOT_NEEDED: len(photographs) - len(chosen)})
    return PhotoSource(_photographs(photographs, chosen, rows, default), len(chosen), found.left_out + beyond, tuple(notes))


def _drawn(names: Iterable[str], limit: int | None) -> list[str]:
    """The `limit` names with the lowest digests: spread over a folder, however it is sorted, and the same every time."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())[:limit]


def _photographs(
    found: Mapping[str, Path], chosen: Set[str], rows: Mapping[str, Mapping[str, str]], default: Mapping[str, str]
) -> Iterator[EncodedPhoto]:
    taken: set[str] = set()
    for relative, file in found.items():
        name = Path(relative).with_suffix("").as_posix()
        name = relative if name in taken else name
        taken.add(name)
        if relative not in chosen:
            continue
        own = {**default, **rows.get(relative, {})}
        yield EncodedPhoto(name, file, own["license"], own["attribution"])


def _dataset(path: str, license: str, attribution: str, limit: int | None) -> PhotoSource:
    rows = _number_of_rows(path)
    count = rows if limit is None or (rows is not None and rows < limit) else limit if rows is not None else None
    return PhotoSource(islice(_rows(path, license, attribution), limit), count)


def _tables(folder: Path | str) -> list[Path]:
    return [file for pattern in ("*.parquet", "*/*.parquet") for file in parquet_files(folder, pattern)]


def _number_of_rows(path: str) -> int | None:
    """Rows in the Parquet files of a dataset directory, of its split if files are named after splits. None on the Hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, _, part = path.rpartition(":") if ":" in path and not Path(path).is_dir() else (path, "", "")
    files = _tables(folder)
    config, _, split = part.rpartition("/")
    inside = [file for file in files if not config or file.parent.name == config]
    named = [file for file in inside if file.name.startswith(f"{split or 'train'}-")]
    try:
        return sum(pq.read_metadata(file).num_rows for file in named or inside) if files else None
    except (pa.ArrowException, OSError, ValueError):
        return None  # a damaged file is named when it is read


def _rows(path: str, license: str, attribution: str) -> Iterator[EncodedPhoto]:
    name, _, part = path.rpartition(":") if ":" in path else (path, "", "")
    config, _, split = part.rpartition("/")
    rows, column, texts = _open_dataset(name, config or None, split or "train")
    default = {"license": license, "attribution": attribution}
    for number, row in enumerate(_whole(rows, name)):
        cell = row[column] if isinstance(row[column], Mapping) else {"bytes": row[column]}
        stem = Path(str(cell.get("path") or row.get("source_id") or "")).stem
        label = f"{number:08d}-{stem}" if stem else f"{number:08d}"
        own = default | stated({key: text(row.get(key)) for key, text in texts.items()}, f"{name}: row {number}")
        yield EncodedPhoto(label, cell.get("bytes"), own["license"], own["attribution"], cells.lack(cell.get("path")))


def _whole(rows: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The rows as Arrow has them: `datasets` itself would look for the paths in image cells. UserError for a damaged file."""
    try:
        for table in rows.with_format("arrow").iter(batch_size=16):
            yield from table.to_pylist()
    except Exception as error:  # whatever datasets, pyarrow and the network raise in the middle of a file
        raise dataset_error(name, error) from None


def _open_dataset(name: str, config: str | None, split: str) -> tuple[Any, str, dict[str, Callable[[Any], Any]]]:
    """The rows with their image column's bytes as they are, that column, and what makes text of `license` and `attribution`."""
    import datasets

    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        features = rows.features or rows._resolve_features().features
        builder = rows.info.builder_name
    except Exception as error:  # its own classes, those of pyarrow and of the network
        hint = "Check the name and the network; for a private or gated set log in with `hf auth login`; or give a folder."
        raise dataset_error(name, error, hint) from None
    images = [column for column, feature in features.items() if _is_image(feature)]
    if not images:
        raise UserError(
            f"The dataset '{name}' has no image column, only {', '.join(features)}.", "Choose a dataset of photographs."
        )
    if builder == "imagefolder":
        raise UserError(
            f"The dataset '{name}' is a repository of image files, not of tables.",
            f"Download it and give the folder: hf download {name} --repo-type dataset --local-dir DIR",
        )
    column = next((wanted for wanted in IMAGE_COLUMNS if wanted in images), images[0])
    texts = {key: column_as_text(features[key], key, name) for key in STATED if key in features}
    for other, feature in features.items():  # before any column is removed: that would decode the others and encode them anew
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(other, datasets.Image(decode=False))
    wanted = [name for name in features if name in (column, *STATED, "source_id")]
    return rows.select_columns(wanted), column, texts


def _is_image(feature: Any) -> bool:
    """Also what is written without the schema of `datasets`: a struct {bytes, path}, or bytes alone."""
    import datasets

    if isinstance(feature, Mapping):
        return set(feature) == {"bytes", "path"} and _is_image(feature["bytes"])
    return isinstance(feature, datasets.Image) or (isinstance(feature, datasets.Value) and "binary" in feature.dtype)
