"""Reads annotations out of Label Studio into the dataset's tables: paged, incremental, idempotent."""

import errno
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from fgr.annotate import campaign as campaigns
from fgr.annotate import tasks
from fgr.annotate.campaign import Campaign
from fgr.annotate.reader import Reader, Tally, annotated_tasks, known_people, nameless, parsed_task, reader, table_of
from fgr.annotate.studio import Studio
from fgr.dataset import card, tables
from fgr.errors import UserError

MARGIN = timedelta(seconds=60)  # read again before the last change seen: a slow request may carry an earlier time
KEYS = {"annotations": ("id", "annotator"), "preferences": ("left_id", "right_id", "annotator")}
MAP = "degradation_map"


def key_of(table: str, row: Mapping[str, Any]) -> str:
    """What a row of `table` is about and by whom, as one string."""
    return "\t".join(str(row[name]) for name in KEYS[table])


class Spool:
    """The rows of a small table on their way to the disk: the latest of each key, by ascending key, in a temporary file.

    A row's key is its sample(s) and annotator. Memory does not grow with the number of rows.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self._folder = tempfile.TemporaryDirectory(prefix="fgr-pull-")
        self._rows = sqlite3.connect(Path(self._folder.name) / "rows.sqlite", isolation_level=None)
        self._rows.execute("pragma journal_mode = off")
        self._rows.execute("pragma synchronous = off")
        self._rows.execute("create table rows (key text primary key, task text, stamp text, body text, map blob) without rowid")
        self._rows.execute("create index by_task on rows (task)")

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._folder.cleanup()

    def put(self, row: Mapping[str, Any], task: str, stamp: str) -> None:
        """Keep `row` unless one of the same key with a later stamp (ISO time) is there; `task` names where it came from."""
        body = json.dumps({name: value for name, value in row.items() if name != MAP})
        self._do(
            "insert into rows values (?, ?, ?, ?, ?) on conflict (key) do update set task = excluded.task, "
            "stamp = excluded.stamp, body = excluded.body, map = excluded.map where excluded.stamp >= stamp",
            (key_of(self.table, row), task, stamp, body, row.get(MAP)),
        )

    def forget(self, task: str) -> None:
        """Drop the rows that came from `task`."""
        self._do("delete from rows where task = ?", (task,))

    def places(self) -> dict[str, str]:
        """Where the rows came from by `key_of`, of those that came from a task."""
        return dict(self._rows.execute("select key, task from rows where task glob '[0-9]*' order by key"))

    def _do(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._rows.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, "No space left on device", self._folder.name) from None

    def __len__(self) -> int:
        return int(self._rows.execute("select count(*) from rows").fetchone()[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows by ascending key."""
        with closing(self._rows.execute("select body, map from rows order by key")) as found:
            for body, image in found:
                yield json.loads(body) | ({MAP: image} if image is not None else {})


def pull(studio: Studio, directory: Path, campaign: Campaign, everything: bool) -> tuple[Tally, Campaign]:
    """Read all projects and write the table; the tally, and the campaign with the last changes seen and where rows came from.

    Without `everything` only tasks changed since the last pull: work deleted from a task goes, that of a deleted task stays.
    """
    table = table_of(campaign)
    read = reader(directory, campaign, known_people(studio, directory, campaign), table)
    tally = Tally(table)
    latest: dict[str, str] = {}
    with Spool(table) as spool:
        present = partial(_carry_over, spool, directory, table, _aliases(campaign, read), _places(directory, campaign, table))
        carried = present(lambda _: not everything)
        for name, title in campaign.projects.items():
            since = campaign.pulled.get(name, "") if carried else ""  # a table that was removed is read again
            for task in annotated_tasks(studio, campaign, title, tally, since):
                origin = f"{task.id} {name}"
                spool.forget(origin)  # what was deleted there goes
                if len(campaign.projects) == 1:
                    spool.forget(_unplaced(task.key))
                for row, stamp in read.rows(task, tally):
                    spool.put(row, origin, stamp)
                latest[name] = max(latest.get(name, ""), task.updated_at or "")
        if tally.lost and everything:
            lost = {f"{number} {name}" for number in tally.lost for name in campaign.projects}
            present(lambda where: where in lost)
        _write(spool, directory, table, tally)
        times = {name: _earlier(time) for name, time in latest.items() if time}
        return tally, campaign.with_pulled(times, read.names, spool.places())


def from_file(directory: Path, campaign: Campaign, file: Path) -> Tally:
    """Read an export made by hand (JSON or JSON-MIN). UserError if the file is neither."""
    try:
        listed = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):  # JSONDecodeError, UnicodeDecodeError, numbers of thousands of digits
        raise UserError(f"{file} is not JSON.", "Export the project as JSON or JSON-MIN.") from None
    if not isinstance(listed, list) or (listed and not any(isinstance(item, dict) for item in listed)):
        raise UserError(
            f"{file} is not an export of Label Studio: expected a list of tasks.", "Export the project as JSON or JSON-MIN."
        )
    tally = Tally("annotations")
    found = [task for task in (parsed_task(item, tally) for item in listed) if task]
    pairs = sum(tasks.PAIR in task.key for task in found)
    tally.table = table = "preferences" if pairs * 2 > len(found) else "annotations"
    read = reader(directory, campaign, campaign.people, table)
    with Spool(table) as spool:
        _carry_over(spool, directory, table, {}, lambda _: "", lambda _: True)
        for task in found:
            for row, stamp in read.rows(task, tally):
                spool.put(row, "", stamp)
        _write(spool, directory, table, tally)
    return tally


def _carry_over(
    spool: Spool,
    directory: Path,
    table: str,
    aliases: Mapping[str, str],
    place: Callable[[Mapping[str, Any]], str],
    own: Callable[[str], bool],
) -> int:
    """Put the rows of the present table, those of this campaign only where `own`; the number of its rows that were put.

    `place` says where a row came from, "" for other campaigns'; annotators are renamed by `aliases`.
    """
    count = 0
    for row in tables.read_rows(directory, table) if tables.shards(directory, table) else ():
        renamed = row | {"annotator": aliases.get(row["annotator"], row["annotator"])}
        where = place(renamed)
        if not where or own(where):
            count += bool(where)
            spool.put(renamed, where, str(row.get("created_at", "")))
    return count


def _places(directory: Path, campaign: Campaign, table: str) -> Callable[[Mapping[str, Any]], str]:
    """Where a row of this campaign came from: its task and annotator, its sample alone if that is not known; "" for others'.

    Preferences do not say their campaign: this one's are the pairs that no other has.
    """
    others = {entry.key for other in campaigns.known(directory) if other.name != campaign.name for entry in other.entries}
    mine = {entry.key for entry in campaign.entries} - others

    def place(row: Mapping[str, Any]) -> str:
        key = row["id"] if table == "annotations" else f"{row['left_id']}{tasks.PAIR}{row['right_id']}"
        own = row["project"] == campaign.name if table == "annotations" else key in mine
        return (campaign.places.get(key_of(table, row)) or _unplaced(key)) if own else ""

    return place


def _aliases(campaign: Campaign, read: Reader) -> dict[str, str]:
    """Pseudonyms by those that an export made by hand got, where only the server's user id was known."""
    return {campaigns.pseudonym(read.salt, nameless(user, campaign.name)): name for user, name in read.names.items()}


def _unplaced(key: Any) -> str:
    return f"sample {key}"


def _write(spool: Spool, directory: Path, table: str, tally: Tally) -> None:
    tally.rows = len(spool)
    if tally.rows or tables.shards(directory, table):
        tables.write_small(directory, table, spool)
        card.write(directory)


def _earlier(time: str) -> str:
    return (datetime.fromisoformat(time) - MARGIN).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
