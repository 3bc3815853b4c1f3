"""Every promise of a dataset directory, checked row by row in bounded memory."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fgr import records
from fgr.dataset import manifest, screen, tables
from fgr.images import codec, difference, swap
from fgr.recipe import digest
from fgr.tensors import file_digest


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken promise: in which file, in which row (empty for the whole file), and what."""

    file: str
    row: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}{f' · {self.row}' if self.row else ''}: {self.text}"


@dataclass(slots=True)
class _Seen:
    """What must hold between rows."""

    ids: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)


def verify(directory: Path) -> Iterator[Problem]:
    """Yield every broken promise of the dataset in `directory`. UserError if it is not a finished dataset."""
    recorded = manifest.read(directory)
    unusable = list(_unreadable(directory))
    if recorded.get("recipe_digest") != digest(recorded["recipe"]):
        unusable.append(Problem(manifest.NAME, "", "its recipe is not the one that it was made by (recipe_digest differs)"))
    if unusable:  # nothing else can be checked then
        yield from unusable
        return
    yield from _files(directory, recorded)
    yield from _card(directory)
    seen = _Seen()
    for file in tables.shards(directory, "samples"):
        for row in tables.read_shard(file):
            yield from (
                Problem(f"samples/{file.name}", str(row["id"]), text) for text in _row(row, tables.split_of(file), recorded, seen)
            )
    yield from _joined(directory, seen)


def _unreadable(directory: Path) -> Iterator[Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table in records.TABLES:
        for file in tables.shards(directory, table):
            try:
                pq.read_metadata(file)
            except (pa.ArrowInvalid, OSError):
                yield Problem(f"{table}/{file.name}", "", "it is not a readable Parquet file: damaged or cut off")


def _files(directory: Path, recorded: dict[str, Any]) -> Iterator[Problem]:
    listed = {state["file"]: state for state in recorded["shards"] if state["rows"]}
    there = {f"samples/{file.name}": file for file in tables.shards(directory, "samples")}
    for name in sorted(listed.keys() - there.keys()):
        yield Problem(name, "", "missing, though fgr.json lists it")
    for name in sorted(there.keys() - listed.keys()):
        yield Problem(name, "", "not listed in fgr.json")
    for name in sorted(listed.keys() & there.keys()):
        if file_digest(there[name]) != listed[name]["sha256"]:
            yield Problem(name, "", "its bytes are not those that fgr.json lists (sha256 differs)")
        yield from _state(name, there[name], listed[name])
    counted, asked = (
        sum(state["rows"] + sum(state["drops"].values()) for state in recorded["shards"]),
        recorded["recipe"]["samples"],
    )
    if counted != asked:
        yield Problem(manifest.NAME, "", f"it counts {counted} samples, made or dropped, of {asked}")
    for table in records.TABLES:
        for file in tables.shards(directory, table):
            yield from _schema(table, file)


def _state(name: str, file: Path, state: dict[str, Any]) -> Iterator[Problem]:
    import pyarrow.parquet as pq

    rows = pq.read_metadata(file).num_rows
    if rows != state["rows"]:
        yield Problem(name, "", f"it has {rows} rows, fgr.json lists {state['rows']}")
    if tables.split_of(file) != state["split"]:
        yield Problem(name, "", f"fgr.json lists it in the split '{state['split']}'")


def _schema(table: str, file: Path) -> Iterator[Problem]:
    import pyarrow.parquet as pq

    name = f"{table}/{file.name}"
    with pq.ParquetFile(file) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
    wanted = records.arrow_schema(table)
    if not schema.equals(wanted) or (schema.metadata or {}).get(b"huggingface") != wanted.metadata[b"huggingface"]:
        yield Problem(name, "", "its columns or their image types are not those of the table")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if 0 in groups or any(rows > tables.ROW_GROUP for rows in groups):
        yield Problem(name, "", f"a row group must hold 1 to {tables.ROW_GROUP} rows")


def _card(directory: Path) -> Iterator[Problem]:
    try:
        front = yaml.safe_load((directory / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
        configs, infos = front["configs"], {info["config_name"]: info for info in front["dataset_info"]}
    except (OSError, IndexError, KeyError, TypeError, yaml.YAMLError):
        yield Problem("README.md", "", "missing, or without the YAML that load_dataset needs")
        return
    for config in configs:
        table = config["config_name"]
        counts = {split["name"]: split["num_examples"] for split in infos.get(table, {}).get("splits", [])}
        for pattern in config["data_files"]:
            if not list(directory.glob(pattern["path"])):
                yield Problem("README.md", "", f"the pattern {pattern['path']} matches no file")
            rows = tables.count_rows(directory, table, pattern["split"] if table == "samples" else None)
            if counts.get(pattern["split"]) != rows:
                yield Problem(
                    "README.md", "", f"{table}/{pattern['split']} has {rows} rows, the card says {counts.get(pattern['split'])}"
                )
    for table in records.TABLES:
        if tables.shards(directory, table) and table not in infos:
            yield Problem("README.md", "", f"the table {table} is not declared")


def _row(row: dict[str, Any], split: str, recorded: dict[str, Any], seen: _Seen) -> Iterator[str]:
    missing = [name for name in records.columns("samples") if row.get(name) is None]
    if missing:
        yield f"no value in {', '.join(missing)}"
        return
    yield from _identity(row, split, recorded, seen)
    try:
        images = {name: codec.decode_rgb(row[name]) for name in ("reference", "sr", "composite")}
        mask, degradation_map = codec.decode_mask(row["mask"]), codec.decode_map(row["degradation_map"])
    except ValueError as error:
        yield f"an image cannot be decoded: {error}"
        return
    if len({image.shape[:2] for image in [*images.values(), mask, degradation_map]}) != 1:
        yield "its images differ in size"
        return
    yield from _pixels(row, images, mask, recorded)
    yield from _labels(row, images, mask, degradation_map, recorded)


def _identity(row: dict[str, Any], split: str, recorded: dict[str, Any], seen: _Seen) -> Iterator[str]:
    if seen.ids.setdefault(row["id"], split) != split or row["id"] != manifest.row_id(
        row, manifest.determinants_of(recorded["recipe"], recorded["calibration"])
    ):
        yield "its id is not the digest of what determines it, or stands in two splits"
    if seen.splits.setdefault(row["photo_id"], split) != split:
        yield f"its photograph is also in the split '{seen.splits[row['photo_id']]}'"
    wanted = screen.split_of(row["photo_id"], recorded["recipe"]["splits"])
    if wanted != split:
        yield f"its photograph belongs to the split '{wanted}'"
    models = {model["name"]: model["digest"] for model in recorded["models"]}
    if models.get(row["model"]) != row["model_digest"]:
        yield "its SR model or the model's digest is not listed in fgr.json"
    if row["mask_kind"] not in records.MASK_KINDS:
        yield f"unknown mask kind '{row['mask_kind']}'"
    for name in ("degradation", "inference"):
        try:
            json.loads(row[name])
        except json.JSONDecodeError:
            yield f"{name} is not JSON"


def _pixels(row: dict[str, Any], images: dict[str, np.ndarray], mask: np.ndarray, recorded: dict[str, Any]) -> Iterator[str]:
    reference = images["reference"]
    if screen.pixel_digest(reference) != row["source_id"]:
        yield "source_id is not the digest of the reference's pixels"
    sham = row["mask_kind"] == "sham"
    source = swap.sham_source(reference, recorded["recipe"]["masks"]["sham_shift"]) if sham else images["sr"]
    wrong = (images["composite"] != swap.composite(source, reference, mask)).any(axis=2)
    if wrong.any():
        outside = int((wrong & (mask == 0)).sum())
        yield f"composite differs from m·sr + (1−m)·reference in {int(wrong.sum())} pixels, {outside} of them outside the mask"
    if row["mask_kind"] == "full" and mask.min() < 255:
        yield "the mask of a full row is not 255 everywhere"
    if not mask.any():
        yield "the mask is empty"
    if abs(float(mask.mean(dtype=np.float64)) / 255 - row["mask_area"]) > 1e-6:
        yield "mask_area is not the mean of the mask"


def _labels(
    row: dict[str, Any], images: dict[str, np.ndarray], mask: np.ndarray, degradation_map: np.ndarray, recorded: dict[str, Any]
) -> Iterator[str]:
    settings = recorded["recipe"]["map"]
    if degradation_map[mask == 0].any():
        yield "degradation_map is not 0 outside the mask"
    score = 1 - difference.pooled(degradation_map, **settings["pooling"])
    if abs(score - row["score"]) > 1e-6:
        yield f"score is {row['score']:.6f}, its map gives {score:.6f}"
    pixel, feature = _differences(row, images, settings["features"])
    for name, ingredient in (("pixel_difference", pixel), ("feature_difference", feature)):
        if ingredient is not None and mask.any() and abs(float(ingredient[mask > 0].mean()) - row[name]) > 1e-6:
            yield f"{name} is not its mean inside the mask"
    if feature is None:
        return
    combined = difference.combined(pixel, feature, settings["alpha"], settings["smooth"])
    expected = codec.quantised(difference.degradation_map(combined, mask, recorded["calibration"]["scale"]))
    if not np.array_equal(expected, degradation_map):
        yield f"degradation_map differs from its definition in {int((expected != degradation_map).sum())} pixels"


def _differences(row: dict[str, Any], images: dict[str, np.ndarray], features: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The map's two ingredients; None for the second where its features need weights (`--replay` checks those)."""
    reference, sr = images["reference"], images["reference" if row["mask_kind"] == "sham" else "sr"]
    known = row["mask_kind"] == "sham" or features == "gradient"  # features of an image and itself do not differ
    return difference.pixel_difference(reference, sr), difference.gradient_difference(reference, sr) if known else None


def _joined(directory: Path, seen: _Seen) -> Iterator[Problem]:
    keys = {"annotations": ("id",), "consensus": ("id",), "preferences": ("left_id", "right_id")}
    for table, names in keys.items():
        for file in tables.shards(directory, table):
            for row in tables.read_shard(file, names):
                for name in names:
                    if row[name] not in seen.ids:
                        yield Problem(f"{table}/{file.name}", str(row[name]), "there is no sample with this id")
