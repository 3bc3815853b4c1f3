"""Every promise of a dataset directory, checked row by row in bounded memory."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fgr import records
from fgr.dataset import cells, manifest, manifest_check, screen, tables
from fgr.dataset.damage import MISSING, UNREADABLE, damaged_files
from fgr.errors import printable
from fgr.images import codec, difference, swap
from fgr.recipe import digest
from fgr.tensors import file_digest

ROUNDED = 2 * codec.MAP_ERROR


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken promise: in which file, in which row (empty for the whole file), and what."""

    file: str
    row: str
    text: str

    def __str__(self) -> str:
        return printable(f"{self.file}{f' · {self.row}' if self.row else ''}: {self.text}")


@dataclass(slots=True)
class _Seen:
    """What must hold between rows."""

    ids: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)


def verify(directory: Path) -> Iterator[Problem]:
    """Yield every broken promise of the dataset in `directory`. UserError if it is not a finished dataset."""
    recorded = manifest.read(directory)
    unusable = [Problem(name, "", text) for name, text in damaged_files(directory) if text == UNREADABLE]
    unusable += _unknown_difference(recorded)
    unusable += [Problem(manifest.NAME, "", text) for text in manifest_check.wrong_keys(recorded)]
    if isinstance(recorded["recipe"], dict) and recorded.get("recipe_digest") != digest(recorded["recipe"]):
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


def _unknown_difference(recorded: dict[str, Any]) -> Iterator[Problem]:
    name = "l1"
    with suppress(AttributeError):  # a recipe of another shape is reported by itself
        name = recorded["recipe"].get("map", {}).get("pixel", "l1")
    if name not in difference.PIXEL_DIFFERENCES:
        known = ", ".join(difference.PIXEL_DIFFERENCES)
        yield Problem(
            manifest.NAME, "", f"its maps are of the pixel difference '{name}', which this version does not know ({known})"
        )


def _files(directory: Path, recorded: dict[str, Any]) -> Iterator[Problem]:
    listed = {state["file"]: state for state in recorded["shards"] if state["rows"]}
    there = {f"samples/{file.name}": file for file in tables.shards(directory, "samples")}
    for name in sorted(listed.keys() - there.keys()):
        yield Problem(name, "", MISSING)
    for name in sorted(there.keys() - listed.keys()):
        yield Problem(name, "", "not listed in fgr.json")
    for name in sorted(listed.keys() & there.keys()):
        if file_digest(there[name]) != listed[name].get("sha256"):
            yield Problem(name, "", "its bytes are not those that fgr.json lists (sha256 differs)")
        yield from _state(name, there[name], listed[name])
    yield from (Problem(manifest.NAME, "", text) for text in manifest_check.wrong_counts(directory, recorded))
    for table in records.TABLES:
        for file in tables.shards(directory, table):
            yield from _schema(table, file, manifest.lacking(recorded) if table == "samples" else ())


def _state(name: str, file: Path, state: dict[str, Any]) -> Iterator[Problem]:
    import pyarrow.parquet as pq

    rows = pq.read_metadata(file).num_rows
    if rows != state["rows"]:
        yield Problem(name, "", f"it has {rows} rows, fgr.json lists {state['rows']}")
    if tables.split_of(file) != state["split"]:
        yield Problem(name, "", f"fgr.json lists it in the split '{state['split']}'")


def _schema(table: str, file: Path, lacking: Sequence[str]) -> Iterator[Problem]:
    import pyarrow.parquet as pq

    name = f"{table}/{file.name}"
    with pq.ParquetFile(file) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
    wanted = records.arrow_schema(table, lacking)
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
    missing = [name for name in records.columns("samples") if row.get(name) is None and name not in manifest.lacking(recorded)]
    if missing:
        yield f"no value in {', '.join(missing)}"
        return
    yield from _identity(row, split, recorded, seen)
    lossy = [name for name in ("reference", "sr", "composite") if codec.is_lossy(row[name])]
    if lossy:
        yield f"{', '.join(lossy)}: lossy copies, as datasets.map writes images anew; the card says how to map without that"
        return
    try:
        images = {name: codec.decode_rgb(row[name]) for name in ("reference", "sr", "composite")}
        mask = codec.decode_mask(row["mask"])
        maps = {name: codec.decode_map(data) for name, data in row.items() if name in cells.MAPS}
    except ValueError as error:
        yield f"an image cannot be decoded: {error}"
        return
    if len({image.shape[:2] for image in [*images.values(), mask, *maps.values()]}) != 1:
        yield "its images differ in size"
        return
    yield from _pixels(row, images, mask, recorded)
    yield from _labels(row, images, mask, maps, recorded)


def _identity(row: dict[str, Any], split: str, recorded: dict[str, Any], seen: _Seen) -> Iterator[str]:
    if seen.ids.setdefault(row["id"], split) != split or row["id"] != manifest.row_id(
        row, manifest.determinants_of(recorded["recipe"], recorded["calibration"])
    ):
        yield "its id is not the digest of what determines it, or stands in two splits"
    if seen.splits.setdefault(row["photo_id"], split) != split:
        yield f"its photograph is also in the split '{seen.splits[row['photo_id']]}'"
    wanted = recorded.get("moved", {}).get(row["photo_id"]) or screen.split_of(row["photo_id"], recorded["recipe"]["splits"])
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
    row: dict[str, Any], images: dict[str, np.ndarray], mask: np.ndarray, maps: dict[str, np.ndarray], recorded: dict[str, Any]
) -> Iterator[str]:
    settings, degradation_map = recorded["recipe"]["map"], maps["degradation_map"]
    if degradation_map[mask == 0].any():
        yield "degradation_map is not 0 outside the mask"
    score = 1 - difference.pooled(degradation_map, **settings["pooling"])
    if abs(score - row["score"]) > 1e-6:
        yield f"score is {row['score']:.6f}, its map gives {score:.6f}"
    sham = row["mask_kind"] == "sham"
    within = np.zeros_like(degradation_map) if sham else maps.get("sr_map", degradation_map) * (mask / np.float32(255))
    apart = int((np.abs(within - degradation_map) > ROUNDED).sum()) if sham or "sr_map" in maps else 0
    if apart:
        yield f"degradation_map is not {'0, as a sham row wants' if sham else 'sr_map times the mask'} in {apart} pixels"
    pair = _differences(images["reference"], images["sr"], recorded)
    for name, ingredient in pair.items():
        mean = 0.0 if sham else float(ingredient[mask > 0].mean()) if mask.any() else row[name]
        if abs(mean - row[name]) > 1e-6:
            yield f"{name} is not its mean inside the mask"
    if "feature_difference" in pair:
        yield from _definitions(pair, mask, maps, sham, recorded)


def _definitions(
    pair: dict[str, np.ndarray], mask: np.ndarray, maps: dict[str, np.ndarray], sham: bool, recorded: dict[str, Any]
) -> Iterator[str]:
    settings, scale = recorded["recipe"]["map"], recorded["calibration"]["scale"]
    pixel, feature = pair["pixel_difference"], pair["feature_difference"]
    combined = difference.combined(pixel, feature, settings["alpha"], settings["smooth"])
    expected = {"sr_map": difference.whole_map(combined, scale)} if "sr_map" in maps else {}
    if not sham:
        expected["degradation_map"] = difference.degradation_map(combined, mask, scale)
    for name, map_ in expected.items():
        wrong = int((codec.quantised(map_) != maps[name]).sum())
        if wrong:
            yield f"{name} differs from its definition in {wrong} pixels"


def _differences(reference: np.ndarray, sr: np.ndarray, recorded: dict[str, Any]) -> dict[str, np.ndarray]:
    """The map's two ingredients by column; without the second where its features need weights (`--replay` checks those)."""
    pixel = difference.PIXEL_DIFFERENCES[manifest.pixel_difference_of(recorded)](reference, sr)
    if recorded["recipe"]["map"]["features"] != "gradient":
        return {"pixel_difference": pixel}
    return {"pixel_difference": pixel, "feature_difference": difference.gradient_difference(reference, sr)}


def _joined(directory: Path, seen: _Seen) -> Iterator[Problem]:
    keys = {"annotations": ("id",), "consensus": ("id",), "preferences": ("left_id", "right_id")}
    for table, names in keys.items():
        for file in tables.shards(directory, table):
            for row in tables.read_shard(file, names):
                for name in names:
                    if row[name] not in seen.ids:
                        yield Problem(f"{table}/{file.name}", str(row[name]), "there is no sample with this id")
