"""The annotations of a Label Studio project as rows of `annotations` or `preferences`."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgr.annotate import campaign as campaigns
from fgr.annotate import exports, labelling, tasks
from fgr.annotate.campaign import Campaign
from fgr.annotate.exports import Annotation, Person, Task
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.errors import UserError, printable
from fgr.images import codec
from fgr.progress import Progress

SHOWN = 20  # problems kept as lines
SKIPPED = "skipped by the annotator"


@dataclass(slots=True)
class Tally:
    """Counts of a pull: rows now in the table, annotations read, those left out by reason, and where (the first few)."""

    table: str
    rows: int = 0
    read: int = 0
    unrated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)  # tasks that the server failed to give

    def drop(self, reason: str, where: str) -> None:
        """Count an annotation that is left out; skipped ones are not a problem."""
        self.left_out[reason] += 1
        if reason != SKIPPED and len(self.problems) < SHOWN:
            self.problems.append(f"{where}: {reason}")

    def lose(self, task: int, reason: str) -> None:
        """Count a task that the server failed to give."""
        self.lost.add(task)
        self.drop(reason, f"task {task}")


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns a task's annotations into rows. `sizes` are (height, width) by sample, `names` pseudonyms by user id."""

    table: str
    project: str
    sizes: Mapping[str, tuple[int, int]]
    names: Mapping[str, str]
    salt: bytes

    def rows(self, task: Task, tally: Tally) -> Iterator[tuple[dict[str, Any], str]]:
        """Rows of a task with the time of their last change; annotations that cannot be read are counted in `tally`."""
        for content in task.annotations or []:
            try:
                annotation = exports.read_annotation(content)
                row = self._row(task.key, annotation)
            except tasks.WorkError as reason:
                number = content.get("id") if isinstance(content, Mapping) else None
                tally.drop(str(reason), _where(task, number))
                continue
            tally.read += 1
            tally.unrated += row.pop("unrated", 0)
            yield row, annotation.updated_at or annotation.created_at or ""

    def _row(self, key: str, annotation: Annotation) -> dict[str, Any]:
        if annotation.was_cancelled:
            raise tasks.WorkError(SKIPPED)
        samples = key.split(tasks.PAIR)
        if len(samples) != (2 if self.table == "preferences" else 1):
            raise tasks.WorkError("a task that fgr did not make")
        if any(sample not in self.sizes for sample in samples):
            raise tasks.WorkError("a sample that is not in the dataset")
        annotator = self._annotator(annotation.completed_by)
        if self.table == "preferences":
            choice = tasks.read_preference(annotation.result)
            return {"left_id": samples[0], "right_id": samples[1], "annotator": annotator, "choice": choice}
        work = tasks.read_defects(annotation.result, *self.sizes[key])
        return {
            "id": key,
            "annotator": annotator,
            "score": work.score,
            "degradation_map": codec.encode_mask(work.map8),
            "defects": work.defects,
            "comment": work.comment,
            "lead_time_s": annotation.lead_time or 0.0,
            "created_at": annotation.created_at or "",
            "project": self.project,
            "unrated": work.unrated,
        }

    def _annotator(self, who: Person | int | str | None) -> str:
        if isinstance(who, Person):
            if who.email:
                return campaigns.pseudonym(self.salt, who.email)
            who = who.id
        if who is None:
            raise tasks.WorkError("work without an author")
        return self.names.get(str(who)) or campaigns.pseudonym(self.salt, nameless(who, self.project))


def parsed_task(content: Any, tally: Tally) -> Task | None:
    """A task of the server or of an export; None, counted in `tally`, for what is none."""
    try:
        return exports.read_task(content)
    except tasks.WorkError as reason:
        number = content.get("id") if isinstance(content, Mapping) else None
        tally.drop(str(reason), f"task {_shown(number)}")
        return None


def table_of(campaign: Campaign) -> str:
    """The table a campaign's work goes to."""
    return "preferences" if campaign.recipe.get("interface") == "preference" else "annotations"


def reader(directory: Path, campaign: Campaign, people: Mapping[str, str], table: str) -> Reader:
    """A reader for the campaign's work; `people` are pseudonyms by user id."""
    return Reader(table, campaign.name, mask_sizes(directory), people, campaigns.read_salt(directory))


def known_people(studio: Studio, directory: Path, campaign: Campaign) -> dict[str, str]:
    """Pseudonyms by the server's user id, those of people who are gone included."""
    salt = campaigns.read_salt(directory)
    return {**campaign.people, **{str(user): campaigns.pseudonym(salt, email) for user, email in studio.people().items()}}


def annotated_tasks(studio: Studio, campaign: Campaign, title: str, tally: Tally, since: str = "") -> Iterator[Task]:
    """Tasks of a project with their annotations; the next page is fetched while one is read. UserError if it is gone.

    What is no task, and tasks that the server fails to give, are counted in `tally`.
    """
    project = studio.project(title)
    if project is None:
        raise UserError(f"Label Studio at {campaign.url} has no project '{title}'.", "If it was deleted or renamed, push again.")
    kind = str(campaign.recipe.get("interface"))
    labelling.expect_unchanged(kind, bool(campaign.recipe.get("reference", True)), project["label_config"], title)
    with Progress(f"pull {title}", project.get("task_number") or 0, "tasks") as progress:
        for page in _prefetched(studio.annotated_tasks(project["id"], since, lost=tally.lose)):
            yield from filter(None, (parsed_task(content, tally) for content in page))
            progress.advance(len(page))


def mask_sizes(directory: Path) -> dict[str, tuple[int, int]]:
    """(height, width) of every sample, from the headers of the masks' PNGs."""
    heads = tables.read_heads(directory, "samples", "mask", 16, 24)
    return {sample: struct.unpack(">II", head)[::-1] for sample, head in heads}


def _prefetched(pages: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """The pages, the next one already under way."""
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, pages, None)
        while (page := pending.result()) is not None:
            pending = thread.submit(next, pages, None)
            yield page


def nameless(user: Any, project: str) -> str:
    """What stands for a person of whom only the server's user id is known."""
    return f"user {user} of {project}"


def _where(task: Task, annotation: Any) -> str:
    """Which annotation is meant, in words that a terminal can show."""
    number = "" if annotation is None else f", annotation {_shown(annotation)}"
    return f"task {_shown(task.id)} (sample {_shown(task.key or None)}{number})"


def _shown(value: Any) -> str:
    return printable(str(value)[:40]) if isinstance(value, (int, str)) else "?"
