"""Benchmarks of scores: images with people's opinions, or pairs with choices; agreement with them.

scores   columns `image`, `mos` (larger = better); optional `group` (images of one scene), `reference`
pairs    columns `left`, `right`, `choice` (left, right, tie, or the share of people for left); optional `group`, `reference`
folder   images/METHOD/NAME_METHOD.png and MOS/NAME.txt with lines FILE,SCORE, as SRIQA-Bench comes

Tables are CSV or Parquet; paths in them are relative to the table.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgr import __version__
from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.image_files import ImageFileError, read_image
from fgr.images.arrays import as_tensor
from fgr.metrics import ranks
from fgr.metrics.registry import Metric, Options, open_metrics
from fgr.progress import Progress
from fgr.reward import baselines
from fgr.reward.pretrained import load_reward_model
from fgr.reward.score import score

CHOICES = {"left": 1.0, "right": 0.0, "tie": 0.5}
FORMATS = "It needs the columns image and mos, or left, right and choice."


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Images with `mos` and `groups` (by image), or `pairs`: (left, right, share for left, group) of image numbers."""

    name: str
    images: list[Path]
    references: dict[int, Path] = field(default_factory=dict)
    mos: list[float] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int, float, str]] = field(default_factory=list)


def evaluate_on_benchmark(
    path: str, *, reward: str | None = None, metrics: Sequence[str] = (), border: int = 0, luma: bool = False,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """A reward model, and metrics, on a benchmark of people's opinions, with trivial baselines beside them.

    Images that cannot be read are left out with the pairs they are in, and named with the reason in `left_out`.
    """
    chosen, found = choose_device(device), open_benchmark(path)
    chosen_metrics = open_metrics(metrics, Options(chosen, border, luma))
    _expect_references(found, chosen_metrics)
    model = load_reward_model(reward, chosen) if reward else None
    scores: dict[str, list[float]] = {}
    left_out: dict[int, str] = {}
    with Progress("benchmark", len(found.images), "images") as progress:
        for number in range(len(found.images)):
            try:
                figures = _scored(found, number, model, chosen_metrics, chosen)
            except ImageFileError as error:
                left_out[number] = error.message
                progress.advance(1, {error.reason: 1})
                continue
            for name, value in figures.items():
                scores.setdefault(name, []).append(value)
            progress.advance()
    names = {str(found.images[number]): reason for number, reason in left_out.items()}
    found = _without(found, left_out)
    lower = [metric.name for metric in chosen_metrics if metric.lower_is_better]
    arrays = {name: np.array(values) for name, values in scores.items()}
    return {
        "protocol": {
            "fgr": __version__, "benchmark": str(path), "images": len(found.images), "reward": reward,
            "reward_model": model.settings if model is not None else None, "channel": "Y" if luma else "RGB", "border": border,
            "metrics": {metric.name: metric.origin for metric in chosen_metrics},
            "accuracy": "ties of people left out, equal scores as half", "resampled": "groups",
        },
        "kind": "scores" if found.mos else "pairs",
        "figures": _figures(arrays, found, lower), "left_out": names,
    }  # fmt: skip


def _scored(found: Benchmark, number: int, model: Any, metrics: Sequence[Metric], device: str) -> dict[str, float]:
    """What each scorer says of an image. ImageFileError."""
    image = read_image(found.images[number])
    target = as_tensor([read_image(found.references[number])], device) if number in found.references else None
    scores = {} if model is None else {"reward": score(model, image)[0]}
    scores |= {metric.name: metric.value(as_tensor([image], device), target) for metric in metrics}
    return scores | {name: baseline(image) for name, baseline in baselines.SCORES.items()}


def _without(found: Benchmark, left_out: Collection[int]) -> Benchmark:
    """The benchmark without some of its images. UserError if nothing is left to compare."""
    if not left_out:
        return found
    kept = [number for number in range(len(found.images)) if number not in left_out]
    place = {number: i for i, number in enumerate(kept)}
    pairs = [(place[a], place[b], share, group) for a, b, share, group in found.pairs if a in place and b in place]
    if not kept or (found.pairs and not pairs):
        raise UserError(f"No image of {found.name} can be read.", "Check the images.")
    return replace(
        found, images=[found.images[i] for i in kept], pairs=pairs,
        references={place[i]: file for i, file in found.references.items() if i in place},
        mos=[found.mos[i] for i in kept] if found.mos else [], groups=[found.groups[i] for i in kept] if found.groups else [],
    )  # fmt: skip


def open_benchmark(path: str | Path) -> Benchmark:
    """The benchmark in a table or folder. UserError, also for images that do not exist."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = _folder(place)
    elif place.is_file():
        found = _table(place)
    else:
        raise UserError(f"There is no benchmark at {place}.", FORMATS)
    missing = [file for file in [*found.images, *found.references.values()] if not file.is_file()]
    if missing:
        raise UserError(
            f"{place} names {len(missing)} images that do not exist, for example {missing[0]}.",
            "Paths are relative to the table.",
        )
    return found


def _table(path: Path) -> Benchmark:
    import polars

    try:
        table = polars.read_csv(path, infer_schema_length=None) if path.suffix.lower() == ".csv" else polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} is neither CSV nor Parquet: {' '.join(str(error).split())[:160]}", FORMATS) from None
    rows, columns = table.to_dicts(), set(table.columns)
    if not rows:
        raise UserError(f"{path} has no rows.", FORMATS)
    if {"image", "mos"} <= columns:
        return _scores(path, rows)
    if {"left", "right", "choice"} <= columns:
        return _pairs(path, rows)
    raise UserError(f"{path} has the columns {', '.join(table.columns)}.", FORMATS)


def _scores(path: Path, rows: list[dict[str, Any]]) -> Benchmark:
    images = [path.parent / str(row["image"]) for row in rows]
    references = {i: path.parent / row["reference"] for i, row in enumerate(rows) if row.get("reference")}
    groups = [str(row.get("group", i)) for i, row in enumerate(rows)]
    return Benchmark(path.name, images, references, [_number(path, row["mos"], "mos") for row in rows], groups)


def _pairs(path: Path, rows: list[dict[str, Any]]) -> Benchmark:
    numbers: dict[str, int] = {}
    references: dict[int, Path] = {}
    pairs = []
    for line, row in enumerate(rows):
        left, right = (numbers.setdefault(str(row[side]), len(numbers)) for side in ("left", "right"))
        if row.get("reference"):
            references |= dict.fromkeys((left, right), path.parent / row["reference"])
        pairs.append((left, right, _choice(path, row["choice"]), str(row.get("group", line))))
    return Benchmark(path.name, [path.parent / name for name in numbers], references, pairs=pairs)


def _choice(path: Path, value: Any) -> float:
    if str(value).lower() in CHOICES:
        return CHOICES[str(value).lower()]
    share = _number(path, value, "choice")
    if not 0 <= share <= 1:
        raise UserError(f"{path}: the choice {value} is neither left, right or tie nor a share in 0 … 1.", FORMATS)
    return share


def _number(path: Path, value: Any, column: str) -> float:
    import math

    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{path}: '{value}' in the column {column} is not a number.", FORMATS)
    return number


def _folder(folder: Path) -> Benchmark:
    labels = sorted((folder / "MOS").glob("*.txt"))
    if not labels or not (folder / "images").is_dir():
        raise UserError(f"{folder} is not a known benchmark.", "SRIQA-Bench has images/METHOD/ and MOS/NAME.txt. " + FORMATS)
    images: list[Path] = []
    mos, groups, references = [], [], {}
    for file in labels:
        original = folder / "images" / "Original" / f"{file.stem}_Original.png"
        for line in file.read_text(encoding="utf-8").split("\n"):
            name, score = [*line.replace(",", " ").split(), "", ""][:2]
            if name:
                if original.is_file():
                    references[len(images)] = original
                images.append(folder / "images" / Path(name).stem.rpartition("_")[2] / name)
                mos.append(_number(file, score, "score"))
                groups.append(file.stem)
    return Benchmark(folder.name, images, references, mos, groups)


def _expect_references(found: Benchmark, metrics: Sequence[Metric]) -> None:
    blind = [metric.name for metric in metrics if metric.needs_reference]
    if blind and len(found.references) < len(found.images):
        raise UserError(f"The benchmark has no references, which {', '.join(blind)} need.", "Add the column reference.")


def _figures(scores: Mapping[str, np.ndarray], benchmark: Benchmark, lower: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By scorer: agreement of its scores (N,) with people; scores of those in `lower` are negated."""
    found = {}
    for name, values in scores.items():
        signed = -values if name in lower else values
        if benchmark.mos:
            found[name] = ranks.opinion_figures(signed, np.array(benchmark.mos), benchmark.groups)
        else:
            found[name] = ranks.choice_figures(signed, benchmark.pairs)
    return found
