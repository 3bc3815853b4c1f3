"""Tasks into Label Studio: projects, images, pre-painted regions; adding only what is not there."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.annotate import interface, tasks
from fgr.annotate.plan import Entry, Plan
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.progress import Progress

BATCH = 100
UPLOAD_BATCH = 50  # samples: two images each, and the server takes 100 files at once
IMAGES = '<View><Image name="image" value="$image"/></View>'  # uploads need a project with a single image
INSTRUCTION = (
    "<p>Paint <b>every visible defect</b> of the image with the brush of its kind and give each painted region 1 to 5 stars. "
    "Some regions may be painted already by a program: correct them, delete what is wrong, add what is missing. "
    "Then give the whole image a quality from 0 to 100. Many images have no defect at all: then paint nothing and tick "
    "<i>no visible defect</i>. Work alone and do not look at other people's work.</p>"
)
CHOOSE = (
    "<p>Which of the two images is better, all in all? Look at both in full size; "
    "choose <i>tie</i> only if you see no difference.</p>"
)

Predict = Callable[[np.ndarray], tuple[np.ndarray, float]]  # uint8 (H, W, 3) → float32 (H, W) map, score in [0, 1]


@dataclass(frozen=True, slots=True)
class Look:
    """How tasks look: interface kind, with reference or without, where images come from, what is painted beforehand."""

    kind: str
    reference: bool
    folder: Path | None  # None: images are uploaded; else the folder on the server's disk that it serves
    prediction: str  # none, heuristic or reward
    smooth: float
    floor: float
    min_area: float


def rooms(studio: Studio, plan: Plan, look: Look, overlap: int) -> dict[str, int]:
    """Project ids by room, made where they are missing. UserError if an interface was edited by hand."""
    instruction = CHOOSE if look.kind == "preference" else INSTRUCTION
    found = {}
    for room, title in plan.rooms.items():
        project = studio.create_project(title, interface.text(look.kind, look.reference), instruction, overlap)
        interface.expect_unchanged(look.kind, look.reference, str(project["label_config"]), title)
        found[room] = int(project["id"])
    return found


def push(studio: Studio, directory: Path, plan: Plan, look: Look, overlap: int, predict: Predict | None) -> int:
    """Bring the server to the plan; the number of tasks added. Safe to repeat after any interruption.

    UserError, after pushing the rest, if planned samples are gone.
    """
    projects = rooms(studio, plan, look, overlap)
    missing: dict[str, set[str]] = {}
    for room, project in projects.items():
        there = studio.keys(project)
        for entry in plan.entries:
            if room in entry.rooms and entry.key not in there:
                missing.setdefault(entry.key, set()).add(room)
    images = _Images(studio, plan.name, look.folder, list(projects.values()))
    wanted = [entry for entry in plan.entries if entry.key in missing]
    added, done = 0, set()
    with Progress("push", sum(map(len, missing.values())), "tasks") as progress:
        for batch in _batches(directory, wanted, look, predict):
            addresses = images.place({name: data for _, files, _ in batch for name, data in files.items()})
            done |= {entry.key for entry, _, _ in batch}
            for room, project in projects.items():
                new = [_task(entry, addresses, regions, look) for entry, _, regions in batch if room in missing[entry.key]]
                if new:
                    studio.import_tasks(project, new)
                    added += len(new)
                    progress.advance(len(new))
    for project in projects.values():
        studio.remove_twins(project)
    _expect_all(wanted, done, directory)
    return added


def _expect_all(wanted: list[Entry], done: set[str], directory: Path) -> None:
    lost = [entry.key for entry in wanted if entry.key not in done]
    if lost:
        raise UserError(
            f"{len(lost)} planned samples are not in {directory} any more, the first is {lost[0]}; the others were pushed.",
            "Restore the samples, or push under another --project.",
        )


Made = tuple[Entry, dict[str, bytes], list[dict[str, Any]]]  # an entry, its images by file name, its regions


def _batches(directory: Path, entries: list[Entry], look: Look, predict: Predict | None) -> Iterator[list[Made]]:
    """Entries with their images, a few at a time, in the order of the dataset."""
    size = BATCH if look.folder else UPLOAD_BATCH // (2 if look.kind == "preference" else 1)
    batch: list[Made] = []
    for entry, rows in _ready(directory, entries):
        files = {_file(row["id"], column): row[column] for row in rows for column in ("composite", "reference")}
        batch.append((entry, files, _regions(entry, rows[0], look, predict)))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ready(directory: Path, entries: list[Entry]) -> Iterator[tuple[Entry, list[dict[str, Any]]]]:
    """Each entry whose samples are there with their rows, held only while an entry waits for them."""
    by_sample: dict[str, list[Entry]] = {}
    for entry in entries:
        for sample in entry.key.split(tasks.PAIR):
            by_sample.setdefault(sample, []).append(entry)
    held: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for row in rows(directory, set(by_sample)):
        held[row["id"]] = row
        for entry in by_sample[row["id"]]:
            parts = entry.key.split(tasks.PAIR)
            if held.keys() >= set(parts):
                yield entry, [held[part] for part in parts]
                done.add(entry.key)
        for sample in [sample for sample in held if all(entry.key in done for entry in by_sample[sample])]:
            del held[sample]


def rows(directory: Path, ids: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of the samples, reading images of row groups that have one of them alone."""
    import pyarrow.parquet as pq

    wanted = ["id", "composite", "reference", "degradation_map"]
    for shard in tables.shards(directory, "samples"):
        with pq.ParquetFile(shard) as parquet:
            for group in range(parquet.num_row_groups):
                names = parquet.read_row_group(group, columns=["id"])["id"].to_pylist()
                if ids.isdisjoint(names):
                    continue
                for row in parquet.read_row_group(group, columns=wanted).to_pylist():
                    if row["id"] in ids:
                        yield {name: value["bytes"] if isinstance(value, dict) else value for name, value in row.items()}


def _regions(entry: Entry, row: Mapping[str, Any], look: Look, predict: Predict | None) -> list[dict[str, Any]]:
    """What is painted beforehand: nothing for pairs, gold and cold samples."""
    if look.kind == "preference" or look.prediction == "none" or entry.gold or entry.cold:
        return []
    if look.prediction == "reward":
        assert predict is not None
        values, _ = predict(codec.decode_rgb(row["composite"]))
    else:
        values = codec.decode_map(row["degradation_map"])
    return tasks.regions(tasks.levels(values, look.smooth, look.floor, look.min_area))


def _task(entry: Entry, addresses: Mapping[str, str], regions: list[dict[str, Any]], look: Look) -> dict[str, Any]:
    left, _, right = entry.key.partition(tasks.PAIR)
    reference = addresses[_file(left, "reference")] if look.reference else None
    if look.kind == "preference":
        sides = addresses[_file(left, "composite")], addresses[_file(right, "composite")]
        return tasks.preference_task(left, right, sides, reference)
    return tasks.defect_task(left, addresses[_file(left, "composite")], reference, regions, look.prediction)


def _file(sample: str, column: str) -> str:
    return f"{sample}-{column}.webp"


class _Images:
    """Where the server finds images: uploaded into a project of their own, or written into a folder that it serves."""

    def __init__(self, studio: Studio, name: str, folder: Path | None, projects: list[int]) -> None:
        self.studio, self.folder = studio, folder
        if folder:
            (folder / "fgr").mkdir(parents=True, exist_ok=True)
            for project in projects:
                studio.serve_folder(project, str((folder / "fgr").resolve()))
            return
        title = f"{name} · images"  # 50 characters at most
        self.project = int(studio.create_project(title, IMAGES, "", 1)["id"])
        self.known = studio.uploads(self.project)

    def place(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Addresses of the images by file name, after putting there those that are missing."""
        if self.folder:
            for name, data in files.items():
                if not (self.folder / "fgr" / name).exists():
                    atomic.write_bytes(self.folder / "fgr" / name, data)
            return {name: f"/data/local-files/?d=fgr/{name}" for name in files}
        new = [(name, data) for name, data in files.items() if name not in self.known]
        for start in range(0, len(new), 2 * UPLOAD_BATCH):
            self.known |= self.studio.upload(self.project, dict(new[start : start + 2 * UPLOAD_BATCH]))
        return {name: self.known[name] for name in files}
