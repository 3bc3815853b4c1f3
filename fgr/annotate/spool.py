"""Rows of a small table on their way to the disk: the latest of each key, in a fixed order, without holding them in memory."""

import errno
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

KEYS = {"annotations": ("id", "annotator"), "preferences": ("left_id", "right_id", "annotator")}
MAP = "degradation_map"


def key_of(table: str, row: Mapping[str, Any]) -> str:
    """What a row of `table` is about and by whom, as one string."""
    return "\t".join(str(row[name]) for name in KEYS[table])


class Spool:
    """Rows of `annotations` or `preferences` keyed by sample(s) and annotator, kept in a temporary file."""

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
