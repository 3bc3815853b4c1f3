"""The dataset's tables and their columns; schemas, features and documentation derive from here."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

SPLITS = ("train", "validation", "test")
MASK_KINDS = ("polygon", "ellipse", "stroke", "semantic", "full", "sham")
PLANTED_KINDS = (
    "grain", "checkerboard", "lines", "dots", "tiles", "weave", "ringing", "sharpening", "smoothing", "blur", "banding",
    "blocking", "texture-swap", "warp", "colour-cast",
)  # fmt: skip
LATTICE_PERIODS = (2, 3, 4, 5, 6, 8)  # of planted lattices, in pixels; checkerboards have the even ones up to 6
CHOICES = ("left", "right", "tie")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `type` is a scalar name, `image`, `image:L` (8-bit grey), `list<string>` or `list<defect>`."""

    name: str
    type: str
    meaning: str


TABLES: dict[str, tuple[Column, ...]] = {
    "samples": (
        Column("id", "string", "digest of everything that determines the row"),
        Column("source_id", "string", "digest of the reference's pixels"),
        Column("photo_id", "string", "digest of the source photograph's pixels; splits are drawn from it"),
        Column("reference", "image", "I_GT, the clean crop"),
        Column("sr", "image", "I_SR, the SR model's output for the degraded reference"),
        Column("composite", "image", "I_syn = m·I_SR + (1−m)·I_GT, rounded; exactly I_GT where m = 0"),
        Column("mask", "image:L", "m as 0…255"),
        Column("degradation_map", "image", "M_gt = value / 65535 (16-bit grey), 0 = clean, 1 = worst; exactly 0 where m = 0"),
        Column("sr_map", "image", "the same of the whole of I_SR, whatever the mask: M_gt = sr_map · m but for sham rows"),
        Column("score", "float32", "heuristic global score in [0, 1], 1 = no visible defect"),
        Column("model", "string", "SR model"),
        Column("model_digest", "string", "sha256 of the SR model's weights"),
        Column("scale", "int32", "SR factor"),
        Column("mask_kind", "string", " · ".join(MASK_KINDS)),
        Column("mask_area", "float32", "mean of m"),
        Column("degradation", "string", "JSON of the drawn parameters: replays the low-resolution input exactly"),
        Column("inference", "string", "JSON of how the SR model ran: tile, overlap, precision; on a GPU batch, place, hardware"),
        Column("pixel_difference", "float32", "mean of the pixel difference inside the mask"),
        Column("feature_difference", "float32", "mean of the feature difference inside the mask"),
        Column("license", "string", "licence of the source photograph"),
        Column("attribution", "string", "author of the source photograph"),
        Column("seed", "int64", "seed of the row's random draws"),
    ),
    "annotations": (
        Column("id", "string", "the sample's id"),
        Column("annotator", "string", "pseudonym"),
        Column("score", "float32", "global score, 0…100"),
        Column("degradation_map", "image", "painted severity in [0, 1] as 8-bit grey, value / 255"),
        Column("defects", "list<defect>", "painted regions: kind, severity 1…5, area as a share of the image"),
        Column("comment", "string", "free text"),
        Column("lead_time_s", "float32", "seconds spent"),
        Column("created_at", "string", "ISO 8601, UTC"),
        Column("project", "string", "Label Studio project"),
    ),
    "preferences": (
        Column("left_id", "string", "the left sample's id"),
        Column("right_id", "string", "the right sample's id"),
        Column("annotator", "string", "pseudonym"),
        Column("choice", "string", " · ".join(CHOICES)),
    ),
    "consensus": (
        Column("id", "string", "the sample's id"),
        Column("score_mean", "float32", "recovered global score, 0…100"),
        Column("score_std", "float32", "its standard deviation over accepted raters"),
        Column("raters", "int32", "accepted raters"),
        Column("degradation_map", "image", "soft consensus map in [0, 1] as 8-bit grey, value / 255"),
        Column("agreement", "float32", "mean pairwise Dice of the raters' maps, 0…1"),
        Column("rejected_raters", "list<string>", "pseudonyms left out"),
    ),
}
ADDED = {"samples": ("sr_map",)}  # columns that tables written before version 0.2 lack
DEFECT_FIELDS = {"kind": "string", "severity": "int32", "area": "float32"}


def columns(table: str) -> list[str]:
    """Names of a table's columns, in order."""
    return [column.name for column in TABLES[table]]


def media_columns(table: str) -> list[str]:
    """Names of a table's image columns, in order."""
    return [column.name for column in TABLES[table] if column.type.startswith("image")]


def arrow_schema(table: str, lacking: Collection[str] = ()) -> Any:
    """The pyarrow schema of a table, with the metadata by which `datasets` knows image columns; without those `lacking`."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    scalars = {"string": pa.string(), "float32": pa.float32(), "int32": pa.int32(), "int64": pa.int64()}
    defect = pa.struct([(name, scalars[kind]) for name, kind in DEFECT_FIELDS.items()])
    types = scalars | {"image": image, "image:L": image, "list<string>": pa.list_(pa.string()), "list<defect>": pa.list_(defect)}
    present = [column for column in TABLES[table] if column.name not in lacking]
    features = {column.name: _feature(column.type) for column in present}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(column.name, types[column.type]) for column in present], metadata=metadata)


def current_figures(content: Mapping[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl, or another part of what a run wrote, with the names that figures have today.

    Before version 0.2, `held_out…` was called `battery…` and `…_severity` was called `…_heat`. Serves as json's object_hook.
    """
    return {_current(name): value for name, value in content.items()}


def _current(name: str) -> str:
    if name == "battery" or name.startswith("battery_"):
        name = "held_out" + name.removeprefix("battery")
    return name.removesuffix("_heat") + "_severity" if name.endswith("_heat") else name


def _feature(kind: str) -> dict[str, Any]:
    if kind == "image":
        return {"_type": "Image"}
    if kind == "image:L":
        return {"mode": "L", "_type": "Image"}
    if kind == "list<string>":
        return {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    if kind == "list<defect>":
        return {"feature": {name: {"dtype": dtype, "_type": "Value"} for name, dtype in DEFECT_FIELDS.items()}, "_type": "List"}
    return {"dtype": kind, "_type": "Value"}
