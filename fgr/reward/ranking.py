"""Scored images in order: records of their figures, a table for the terminal, CSV."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.image_files import ImageFileError, read_image
from fgr.progress import Progress
from fgr.reward.score import ScoredImage, scored

Record = dict[str, Any]
COLUMNS = ("rank", "score", "calibrated", "map_worst", "map_mean", "image")


def record(file: Path, found: ScoredImage) -> Record:
    """An image's figures; `calibrated` where the model has a scale."""
    calibrated = {} if found.calibrated is None else {"calibrated": found.calibrated}
    return {"image": str(file), "score": found.score, **calibrated, "map_mean": float(found.map.mean()), "map_worst": found.worst}


def score_files(
    model: Any, files: Sequence[Path], tile: int, draws: int, keep: Callable[[Path, np.ndarray, ScoredImage, Record], None]
) -> tuple[list[Record], dict[str, str]]:
    """The records of images, and why others were left out, by their names; `keep` is given each as soon as it is scored."""
    found, left_out = [], {}
    with Progress("score", len(files), "images") if len(files) > 1 else nullcontext() as progress:
        for file in files:
            try:
                image = read_image(file)
            except ImageFileError as error:
                left_out[str(file)] = error.message
            else:
                figures = scored(model, image, tile, draws)
                found.append(record(file, figures))
                keep(file, image, figures, found[-1])
            if progress:
                progress.advance()
    return found, left_out


def ranked(records: Sequence[Record]) -> list[Record]:
    """The records with their `rank`, the best score first; equal scores in the order of their names."""
    ordered = sorted(records, key=lambda one: (-one["score"], one["image"]))
    return [{"rank": number, **one} for number, one in enumerate(ordered, 1)]


def line(one: Mapping[str, Any]) -> str:
    """A single image's figures."""
    calibrated = f"  calibrated {one['calibrated']:.2f}" if "calibrated" in one else ""
    return f"{one['score']:.4f}{calibrated}  worst {one['map_worst']:.3f}  {one['image']}"


def lines(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of ranked records, a heading first."""
    calibrated = any("calibrated" in one for one in records)
    yield f"{'rank':>4}  {'score':>7}  {'calibrated  ' if calibrated else ''}{'worst':>5}  {'mean':>5}  image"
    for one in records:
        middle = f"{one['calibrated']:>10.2f}  " if calibrated else ""
        figures = f"{one['score']:>7.4f}  {middle}{one['map_worst']:>5.3f}  {one['map_mean']:>5.3f}"
        yield f"{one['rank']:>4}  {figures}  {one['image']}"


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write ranked records as CSV, a column a figure."""
    names = [name for name in COLUMNS if any(name in one for one in records)]
    text = io.StringIO()
    table = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    atomic.write_text(path, text.getvalue())
