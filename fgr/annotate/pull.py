"""People's work out of Label Studio into `annotations` and `preferences`: paged, incremental, idempotent."""

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fgr.annotate import interface, tasks
from fgr.annotate import plan as plans
from fgr.annotate.plan import Plan
from fgr.annotate.spool import Spool, key_of
from fgr.annotate.studio import Studio
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.progress import Progress

MARGIN = timedelta(seconds=60)  # looked back beyond the last change seen: a slow request may carry an earlier time
SHOWN = 20  # problems kept as lines
SKIPPED = "skipped by the annotator"


@dataclass(slots=True)
class Tally:
    """What a pull found: rows now in the table, pieces of work read, those left out by reason, and where (first few)."""

    table: str
    rows: int = 0
    read: int = 0
    unrated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def drop(self, reason: str, where: str) -> None:
        """Count a piece of work that is left out; skipped ones are no problem."""
        self.left_out[reason] += 1
        if reason != SKIPPED and len(self.problems) < SHOWN:
            self.problems.append(f"{where}: {reason}")


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns a task's annotations into rows. `sizes` are (height, width) by sample, `names` pseudonyms by user id."""

    table: str
    project: str
    sizes: Mapping[str, tuple[int, int]]
    names: Mapping[str, str]
    salt: bytes

    def rows(self, task: Mapping[str, Any], tally: Tally) -> Iterator[tuple[dict[str, Any], str]]:
        """Rows of a task with the time of their last change; what cannot be taken over is counted in `tally`."""
        key = str((task.get("data") or {}).get(tasks.KEY) or "")
        where = f"task {task.get('id', '?')} (sample {key or 'unknown'})"
        for annotation in task.get("annotations") or []:
            try:
                row = self._row(key, annotation)
            except tasks.WorkError as reason:
                tally.drop(str(reason), where)
                continue
            tally.read += 1
            tally.unrated += row.pop("unrated", 0)
            yield row, str(annotation.get("updated_at") or annotation.get("created_at") or "")

    def _row(self, key: str, annotation: Mapping[str, Any]) -> dict[str, Any]:
        if annotation.get("was_cancelled"):
            raise tasks.WorkError(SKIPPED)
        samples = key.split(tasks.PAIR)
        if len(samples) != (2 if self.table == "preferences" else 1):
            raise tasks.WorkError("a task that fgr did not make")
        if any(sample not in self.sizes for sample in samples):
            raise tasks.WorkError("a sample that is not in the dataset")
        result = annotation.get("result")
        if not isinstance(result, list):
            raise tasks.WorkError("a result of an unknown form")
        annotator = self._annotator(annotation.get("completed_by"))
        if self.table == "preferences":
            choice = tasks.read_preference(result)
            return {"left_id": samples[0], "right_id": samples[1], "annotator": annotator, "choice": choice}
        work = tasks.read_defects(result, *self.sizes[key])
        return {
            "id": key,
            "annotator": annotator,
            "score": work.score,
            "degradation_map": codec.encode_mask(work.map8),
            "defects": work.defects,
            "comment": work.comment,
            "lead_time_s": float(annotation.get("lead_time") or 0.0),
            "created_at": str(annotation.get("created_at") or ""),
            "project": self.project,
            "unrated": work.unrated,
        }

    def _annotator(self, who: Any) -> str:
        if isinstance(who, Mapping):
            if who.get("email"):
                return plans.pseudonym(self.salt, str(who["email"]))
            who = who.get("id")
        if who is None:
            raise tasks.WorkError("work without an author")
        return self.names.get(str(who)) or plans.pseudonym(self.salt, _nameless(who, self.project))


def table_of(plan: Plan) -> str:
    """The table a project's work goes to."""
    return "preferences" if plan.recipe.get("interface") == "preference" else "annotations"


def reader(directory: Path, plan: Plan, people: Mapping[str, str], table: str) -> Reader:
    """A reader for the project's work; `people` are pseudonyms by user id."""
    return Reader(table, plan.name, sizes(directory), people, plans.salt(directory))


def pull(studio: Studio, directory: Path, plan: Plan, everything: bool) -> tuple[Tally, Plan]:
    """Read all rooms and write the table; the tally, and the plan with the last changes seen and where rows came from.

    Without `everything` tasks changed since the last pull alone: work deleted from a task goes, that of a deleted task stays.
    """
    table = table_of(plan)
    read = reader(directory, plan, known_people(studio, directory, plan), table)
    tally = Tally(table)
    latest: dict[str, str] = {}
    with Spool(table) as spool:
        kept = _keep(spool, directory, table, _aliases(plan, read), _places(directory, plan, table), not everything)
        for room, title in plan.rooms.items():
            since = plan.pulled.get(room, "") if kept else ""  # a table that was removed is read anew
            for task in room_work(studio, plan, title, since):
                place = f"{task['id']} {room}"
                spool.forget(place)  # what was deleted there goes
                if len(plan.rooms) == 1:
                    spool.forget(_unplaced(task["data"].get(tasks.KEY)))
                for row, stamp in read.rows(task, tally):
                    spool.put(row, place, stamp)
                latest[room] = max(latest.get(room, ""), str(task.get("updated_at") or ""))
        _write(spool, directory, table, tally)
        times = {room: _back(time) for room, time in latest.items() if time}
        return tally, plan.with_pulled(times, read.names, spool.places())


def known_people(studio: Studio, directory: Path, plan: Plan) -> dict[str, str]:
    """Pseudonyms by the server's user id, those of people who are gone included."""
    salt = plans.salt(directory)
    return {**plan.people, **{str(user): plans.pseudonym(salt, email) for user, email in studio.people().items()}}


def room_work(studio: Studio, plan: Plan, title: str, since: str = "") -> Iterator[dict[str, Any]]:
    """Tasks of a room with their annotations; the next page is fetched while one is read. UserError if it is gone."""
    project = studio.project(title)
    if project is None:
        raise UserError(f"Label Studio at {plan.url} has no project '{title}'.", "Was it deleted or renamed? Push again.")
    kind = str(plan.recipe.get("interface"))
    interface.expect_unchanged(kind, bool(plan.recipe.get("reference", True)), str(project["label_config"]), title)
    with Progress(f"pull {title}", int(project.get("task_number") or 0), "tasks") as progress:
        for page in _ahead(studio.work(int(project["id"]), since)):
            yield from page
            progress.advance(len(page))


def from_file(directory: Path, plan: Plan, file: Path) -> Tally:
    """Read an export made by hand (JSON or JSON-MIN). UserError if the file is neither."""
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{file} is not JSON.", "Export the project as JSON or JSON-MIN.") from None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise UserError(f"{file} is no export of Label Studio: expected a list of tasks.", "Export as JSON or JSON-MIN.")
    found = [item if "data" in item else _from_min(item) for item in listed]
    pairs = sum(tasks.PAIR in str(item["data"].get(tasks.KEY)) for item in found)
    table = "preferences" if pairs * 2 > len(found) else "annotations"
    read = reader(directory, plan, plan.people, table)
    tally = Tally(table)
    with Spool(table) as spool:
        _keep(spool, directory, table, {}, lambda _: "", True)
        for task in found:
            for row, stamp in read.rows(task, tally):
                spool.put(row, "", stamp)
        _write(spool, directory, table, tally)
    return tally


def sizes(directory: Path) -> dict[str, tuple[int, int]]:
    """(height, width) of every sample, from the headers of the masks' PNGs."""
    heads = tables.read_heads(directory, "samples", "mask", 16, 24)
    return {sample: struct.unpack(">II", head)[::-1] for sample, head in heads}


def _keep(
    spool: Spool,
    directory: Path,
    table: str,
    aliases: Mapping[str, str],
    place: Callable[[Mapping[str, Any]], str],
    with_own: bool,
) -> int:
    """Put the rows that are there already, those that have a place if `with_own`; the number of rows with a place put.

    Annotators are renamed by `aliases`.
    """
    count = 0
    for row in tables.read_rows(directory, table) if tables.shards(directory, table) else ():
        renamed = row | {"annotator": aliases.get(row["annotator"], row["annotator"])}
        where = place(renamed)
        if with_own or not where:
            count += bool(where)
            spool.put(renamed, where, str(row.get("created_at", "")))
    return count


def _places(directory: Path, plan: Plan, table: str) -> Callable[[Mapping[str, Any]], str]:
    """Where a row of this project came from: a task and room, its sample alone if that is not known; "" for other projects'.

    Preferences do not say their project: the plan's are the pairs that no other plan has.
    """
    others = {entry.key for other in plans.known(directory) if other.name != plan.name for entry in other.entries}
    mine = {entry.key for entry in plan.entries} - others

    def place(row: Mapping[str, Any]) -> str:
        key = row["id"] if table == "annotations" else f"{row['left_id']}{tasks.PAIR}{row['right_id']}"
        own = row["project"] == plan.name if table == "annotations" else key in mine
        return (plan.places.get(key_of(table, row)) or _unplaced(key)) if own else ""

    return place


def _aliases(plan: Plan, read: Reader) -> dict[str, str]:
    """Pseudonyms by those that an export made by hand got, where only the server's user id was known."""
    return {plans.pseudonym(read.salt, _nameless(user, plan.name)): name for user, name in read.names.items()}


def _nameless(user: Any, project: str) -> str:
    return f"user {user} of {project}"


def _unplaced(key: Any) -> str:
    return f"sample {key}"


def _write(spool: Spool, directory: Path, table: str, tally: Tally) -> None:
    tally.rows = len(spool)
    if tally.rows or tables.shards(directory, table):
        tables.write_small(directory, table, spool)
        card.write(directory)


def _ahead(pages: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """The pages, the next one already under way."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, pages, None)
        while (page := coming.result()) is not None:
            coming = thread.submit(next, pages, None)
            yield page


def _back(time: str) -> str:
    return (datetime.fromisoformat(time) - MARGIN).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _from_min(item: Mapping[str, Any]) -> dict[str, Any]:
    """A task of the full form from one of JSON-MIN: there severities have no ids, and belong to the stroke they repeat."""
    ratings = {json.dumps(value.get("rle")): value.get("rating") for value in _values(item.get("severity"))}
    result: list[dict[str, Any]] = []
    for i, value in enumerate(_values(item.get("defect"))):
        size = {name: value.get(name) for name in ("original_width", "original_height")}
        result.append({"id": f"r{i}", "from_name": "defect", "value": value} | size)
        rating = ratings.get(json.dumps(value.get("rle")))
        result += [{"id": f"r{i}", "from_name": "severity", "value": {"rating": rating}}] if rating else []
    result += [{"from_name": "score", "value": value} for value in _values(item.get("score"), "number")]
    result += [{"from_name": "comment", "value": value} for value in _values(item.get("comment"), "text")]
    result += [{"from_name": "preference", "value": {"choices": [item["preference"]]}}] if "preference" in item else []
    same = {name: item.get(name) for name in ("created_at", "updated_at", "lead_time")}
    work = same | {"completed_by": item.get("annotator"), "result": result}
    return {"id": item.get("id"), "data": {tasks.KEY: item.get(tasks.KEY)}, "annotations": [work]}


def _values(found: Any, plain: str = "") -> Iterable[dict[str, Any]]:
    listed = found if isinstance(found, list) else [] if found is None else [found]
    return [value if isinstance(value, dict) else {plain: value} for value in listed]
