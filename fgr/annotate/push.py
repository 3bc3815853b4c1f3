"""Tasks into Label Studio: projects, images, pre-painted regions; adding only what is missing."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.annotate import labelling, tasks
from fgr.annotate.campaign import Campaign, Entry
from fgr.annotate.studio import Studio
from fgr.dataset import cells, tables
from fgr.errors import UserError
from fgr.progress import Progress
from fgr.recipe.annotate import AnnotateRecipe, Prediction

BATCH = 100
UPLOAD_BATCH = 50  # samples: two images each, and the server takes 100 files at once
IMAGES = '<View><Image name="image" value="$image"/></View>'  # uploads need a project with a single image
DEFECT_INSTRUCTION = (
    "<p>Paint <b>every visible defect</b> of the image with the brush of its kind and give each painted region 1 to 5 stars. "
    "Some regions may be painted already by a program: correct them and their kinds, delete what is wrong, add what is missing. "
    "Then give the whole image a quality from 0 to 100. Many images have no defect at all: then paint nothing and tick "
    "<i>no visible defect</i>. Work alone and do not look at other people's work.</p>"
)
PREFERENCE_INSTRUCTION = (
    "<p>Which of the two images is better, all in all? Look at both in full size; "
    "choose <i>tie</i> only if you see no difference.</p>"
)

Predict = Callable[[np.ndarray], tuple[np.ndarray, float]]  # uint8 (H, W, 3) → float32 (H, W) map, score in [0, 1]


def push(
    studio: Studio, directory: Path, campaign: Campaign, recipe: AnnotateRecipe, folder: Path | None, predict: Predict | None
) -> int:
    """Bring the server to the campaign's entries; the number of tasks added. Safe to repeat after any interruption.

    `folder` is what the server serves images from, None where they are uploaded. UserError, after pushing the rest, if samples
    of the campaign are gone.
    """
    projects = _projects(studio, campaign, recipe)
    missing: dict[str, set[str]] = {}
    for name, project in projects.items():
        pushed = studio.keys(project)
        for entry in campaign.entries:
            if name in entry.projects and entry.key not in pushed:
                missing.setdefault(entry.key, set()).add(name)
    images = _Images(studio, campaign.name, folder, list(projects.values()))
    wanted = [entry for entry in campaign.entries if entry.key in missing]
    added, done = 0, set()
    with Progress("push", sum(map(len, missing.values())), "tasks") as progress:
        for batch in _batches(directory, wanted, recipe, predict):
            addresses = images.place({name: data for _, files, _ in batch for name, data in files.items()})
            done |= {entry.key for entry, _, _ in batch}
            for name, project in projects.items():
                new = [_task(entry, addresses, regions, recipe) for entry, _, regions in batch if name in missing[entry.key]]
                if new:
                    studio.import_tasks(project, new)
                    added += len(new)
                    progress.advance(len(new))
    for project in projects.values():
        studio.remove_duplicates(project)
    _expect_all(wanted, done, directory)
    return added


def _projects(studio: Studio, campaign: Campaign, recipe: AnnotateRecipe) -> dict[str, int]:
    """The server's project ids by annotator, made where they are missing. UserError if an interface was edited by hand."""
    instruction = PREFERENCE_INSTRUCTION if recipe.interface == "preference" else DEFECT_INSTRUCTION
    ids = {}
    for name, title in campaign.projects.items():
        xml = labelling.text(recipe.interface, recipe.reference)
        project = studio.create_project(title, xml, instruction, 1 if recipe.annotators else recipe.raters)
        labelling.expect_unchanged(recipe.interface, recipe.reference, project["label_config"], title)
        ids[name] = project["id"]
    return ids


def _expect_all(wanted: list[Entry], done: set[str], directory: Path) -> None:
    lost = [entry.key for entry in wanted if entry.key not in done]
    if lost:
        raise UserError(
            f"{len(lost)} selected samples are no longer in {directory}, the first is {lost[0]}; the others were pushed.",
            "Restore the samples, or push under another --project.",
        )


Batch = list[tuple[Entry, dict[str, bytes], list[dict[str, Any]]]]  # entries, each with its images by file name and its regions


def _batches(directory: Path, entries: list[Entry], recipe: AnnotateRecipe, predict: Predict | None) -> Iterator[Batch]:
    """Entries with their images, a few at a time, in the order of the dataset."""
    size = BATCH if recipe.images == "folder" else UPLOAD_BATCH // (2 if recipe.interface == "preference" else 1)
    batch: Batch = []
    for entry, rows in _ready(directory, entries):
        files = {_file(row["id"], column): row[column] for row in rows for column in ("composite", "reference")}
        batch.append((entry, files, _regions(entry, rows[0], recipe, predict)))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ready(directory: Path, entries: list[Entry]) -> Iterator[tuple[Entry, list[dict[str, Any]]]]:
    """Each entry whose samples exist with their rows, which are kept only while an entry waits for them."""
    by_sample: dict[str, list[Entry]] = {}
    for entry in entries:
        for sample in entry.key.split(tasks.PAIR):
            by_sample.setdefault(sample, []).append(entry)
    waiting: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for row in sample_rows(directory, set(by_sample)):
        waiting[row["id"]] = row
        for entry in by_sample[row["id"]]:
            parts = entry.key.split(tasks.PAIR)
            if waiting.keys() >= set(parts):
                yield entry, [waiting[part] for part in parts]
                done.add(entry.key)
        for sample in [sample for sample in waiting if all(entry.key in done for entry in by_sample[sample])]:
            del waiting[sample]


def sample_rows(directory: Path, ids: set[str]) -> Iterator[dict[str, Any]]:
    """The rows of the samples `ids`; images are read only of row groups that have one of them."""
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


def _regions(entry: Entry, row: Mapping[str, Any], recipe: AnnotateRecipe, predict: Predict | None) -> list[dict[str, Any]]:
    """What is painted beforehand: nothing for pairs, gold and cold samples."""
    prediction = recipe.prediction
    if recipe.interface == "preference" or prediction.source == "none" or entry.gold or entry.cold:
        return []
    values = cells.pixels(row, "degradation_map") if prediction.source == "heuristic" else None
    return suggested(row, values, prediction, predict)


def suggested(
    row: Mapping[str, Any], values: np.ndarray | None, settings: Prediction, predict: Predict | None
) -> list[dict[str, Any]]:
    """The regions of a sample's map, or of the reward model's where `values` is None."""
    image = cells.pixels(row, "composite")
    if values is None:
        assert predict is not None
        values, _ = predict(image)
    reference = cells.pixels(row, "reference")
    return tasks.suggested(values, image, reference, settings.smooth, settings.floor, settings.min_area)


def _task(entry: Entry, addresses: Mapping[str, str], regions: list[dict[str, Any]], recipe: AnnotateRecipe) -> dict[str, Any]:
    """UserError for regions that the interface does not have."""
    left, _, right = entry.key.partition(tasks.PAIR)
    reference = addresses[_file(left, "reference")] if recipe.reference else None
    if recipe.interface == "preference":
        sides = addresses[_file(left, "composite")], addresses[_file(right, "composite")]
        return tasks.preference_task(left, right, sides, reference)
    task = tasks.defect_task(left, addresses[_file(left, "composite")], reference, regions, recipe.prediction.source)
    labelling.expect_fit(labelling.text(recipe.interface, recipe.reference), task, left)
    return task


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
        self.project = studio.create_project(title, IMAGES, "", 1)["id"]
        self.known = studio.uploads(self.project)

    def place(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Addresses of the images by file name, after those that are missing were put in place."""
        if self.folder:
            for name, data in files.items():
                if not (self.folder / "fgr" / name).exists():
                    atomic.write_bytes(self.folder / "fgr" / name, data)
            return {name: f"/data/local-files/?d=fgr/{name}" for name in files}
        new = [(name, data) for name, data in files.items() if name not in self.known]
        for start in range(0, len(new), 2 * UPLOAD_BATCH):
            self.known |= self.studio.upload(self.project, dict(new[start : start + 2 * UPLOAD_BATCH]))
        return {name: self.known[name] for name in files}
