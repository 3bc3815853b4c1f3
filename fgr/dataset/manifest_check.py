"""Every key of `fgr.json`, checked: types, ranges, and counts that must agree with the rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgr import recipe, records
from fgr.dataset import tables
from fgr.errors import UserError

Number = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
OF_SAMPLES = (  # reasons of drops that shards count
    "severity", "not_finite", "missing_output", "wrong_size_output", "unreadable_output",
)  # fmt: skip
Split = Literal["train", "validation", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Model(_Part):
    name: Text
    scale: Some
    weights: str
    digest: Text
    license: Text
    train_on_outputs: bool | None
    redistribute: bool | None


class _Opened(_Part):
    name: Text
    digest: str
    origin: str = ""


class _Calibration(_Part):
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    percentile: Annotated[float, Field(gt=0, le=100)]
    pairs: Some
    features: Text
    features_digest: str
    segments: Text
    segments_digest: str


class _Shard(_Part):
    file: Annotated[str, Field(pattern=r"^samples/[a-z]+-\d+-of-\d+\.parquet$")]
    split: Split
    rows: Number
    drops: dict[Text, Some]
    bytes: Some | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class _Source(_Part):
    seen: Number
    used: Number
    left_out: dict[Text, Some]


class _Manifest(_Part):
    fgr: Text
    recipe: dict[str, Any]
    recipe_digest: Text
    models: Annotated[list[_Model], Field(min_length=1)]
    calibration: _Calibration
    shards: list[_Shard]
    drops: dict[Text, Some]
    photographs: dict[Split, Number]
    versions: dict[Text, Text]
    source: _Source | None = None  # this and the next three since version 0.2
    moved: dict[Text, Split] | None = None  # photographs, by id, in another split than their digest says
    features: _Opened | None = None
    segments: _Opened | None = None


def wrong_keys(recorded: Mapping[str, Any]) -> Iterator[str]:
    """What keys of a manifest are absent, unknown, or of another type or range: nothing else can be relied on then."""
    try:
        _Manifest.model_validate(recorded)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            yield f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}"
    try:
        recipe.stored(recorded["recipe"], "generate", "fgr.json")
    except UserError as error:
        yield f"recipe: {' '.join([error.message, *error.lines])[:200]}"
    except (TypeError, AttributeError):
        yield "recipe: it is not a recipe"


def wrong_counts(directory: Path, recorded: Mapping[str, Any]) -> Iterator[str]:
    """Counts that contradict one another, or the rows."""
    made = sum(state["rows"] + sum(state["drops"].values()) for state in recorded["shards"])
    if made != recorded["recipe"]["samples"]:
        yield f"it counts {made} samples, made or dropped, of {recorded['recipe']['samples']}"
    by_shard: Counter[str] = Counter()
    for state in recorded["shards"]:
        by_shard.update(state["drops"])
    for reason in sorted(by_shard.keys() | {one for one in recorded["drops"] if one.partition(":")[0] in OF_SAMPLES}):
        if recorded["drops"].get(reason, 0) != by_shard[reason]:
            yield f"drops: {reason} is {recorded['drops'].get(reason, 0)}, its shards count {by_shard[reason]}"
    if sorted(recorded["photographs"]) != sorted(records.SPLITS):
        yield f"photographs: the splits are {', '.join(records.SPLITS)}"
    for split in records.SPLITS:
        shown = len({row["photo_id"] for file in tables.shards(directory, "samples", split) for row in _photo_ids(file)})
        if shown > recorded["photographs"].get(split, 0):
            yield f"photographs: {split} is {recorded['photographs'].get(split, 0)}, its rows are of {shown}"
    yield from _wrong_source(recorded)


def _wrong_source(recorded: Mapping[str, Any]) -> Iterator[str]:
    source, photographs = recorded.get("source"), sum(recorded["photographs"].values())
    if not source:
        return
    if source["used"] != photographs:
        yield f"source: used is {source['used']}, photographs are {photographs}"
    if source["seen"] != source["used"] + sum(source["left_out"].values()):
        yield f"source: {source['seen']} were seen, {source['used']} used and {sum(source['left_out'].values())} left out"
    for reason, count in sorted(source["left_out"].items()):
        if reason in recorded["drops"] and recorded["drops"][reason] != count:
            yield f"drops: {reason} is {recorded['drops'][reason]}, source.left_out counts {count}"


def _photo_ids(file: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from tables.read_shard(file, ("photo_id",))
    except UserError:  # its columns are reported by themselves
        return
