"""A project's tasks page by page, past those that the Label Studio server fails to give."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NotRequired

import httpx
from typing_extensions import TypedDict

from fgr.annotate.client import Client, TooLarge, TransientError, Unavailable
from fgr.errors import UserError

PREFETCH = 1  # pages requested while one is read: more slow each other down in the server
SPARSE = 4  # ids a task: above, ranges of ids would be mostly empty
PARTED = (200, 500)  # statuses of a page that is read in parts: its JSON breaks off, or the server fails over one of its tasks
FEW = 2  # tries of a part of a page that failed as a whole
MOST_LOST = 20  # tasks of a project that may be left out for that; more: it is the server
FIELDS = "id,data,annotations,result,completed_by,was_cancelled,lead_time,created_at,updated_at"
# `review` spares the server columns that join all results into texts, `expand` a new serialiser for each task
WHOLE: dict[str, Any] = {"fields": "all", "review": "true", "expand": "annotations"}

Condition = dict[str, Any]
Lost = Callable[[int, str], None]  # a task's id, why the server does not give it


class _Page(TypedDict):
    tasks: list[Any]


class _Task(TypedDict):
    id: int


class _Numbers(TypedDict):
    tasks: list[_Task]
    total: NotRequired[int]


class Pages:
    """The tasks of one project, by ascending id; `lost` is told of each that the server fails to give."""

    def __init__(self, client: Client, project: int, lost: Lost | None = None) -> None:
        self._client, self._project, self._lost = client, project, lost
        self._count = 0  # of the lost

    def listed(self, include: str, size: int) -> Iterator[list[dict[str, Any]]]:
        """Pages of all tasks: each asks for ids above the last, so deletions shift nothing."""
        last, full = 0, True
        while full:
            body = self._json(include, [_id("greater", last)], size)
            numbers, full = self._numbers(body), len(body["tasks"]) >= size
            if numbers:
                yield body["tasks"]
                last = self._further(last, numbers)

    def changed(self, since: str, size: int) -> Iterator[list[Any]]:
        """Pages of the tasks with a change after `since` (ISO time; "": all of them), with their annotations."""
        only = [_condition("updated_at", "greater", "Datetime", since)] if since else []
        last, full = 0, True
        while full:
            above = [*only, _id("greater", last)]
            try:
                body = self._json(FIELDS, above, size, **WHOLE)
                numbers, page = self._numbers(body), body["tasks"]
            except (Unavailable, TooLarge) as failure:
                numbers = self._numbers(self._json("id", above, size))
                if not numbers:
                    raise
                page = self._parts(numbers[0], numbers[-1], only, failure)
            full = len(numbers) >= size
            if numbers:
                yield page
                last = self._further(last, numbers)

    def ranges(self, size: int) -> Iterator[list[Any]]:
        """Pages of all tasks with their annotations; those that are ranges of ids, where ids lie close together.

        The next of them is fetched while one is read: the server need not wait for its last response to be decoded.
        """
        first, last, count = self._ends()
        if last - first >= SPARSE * count:
            yield from self.changed("", size)
            return
        with ThreadPoolExecutor(PREFETCH) as threads:
            pending: deque[tuple[int, Future[httpx.Response]]] = deque()
            for start in range(first, last + 1, size):
                pending.append((start, threads.submit(self._fetch, start, start + size - 1)))
                if len(pending) > PREFETCH:
                    yield self._page_of(*pending.popleft(), size)
            while pending:
                yield self._page_of(*pending.popleft(), size)

    def _page_of(self, start: int, response: Future[httpx.Response], size: int) -> list[Any]:
        """A range's tasks; decoded in the reader's thread: memory of many threads lies scattered."""
        end = start + size - 1
        try:
            try:
                body = self._client.decoded(response.result())
            except TransientError:
                return self._range(start, end, [])
        except (Unavailable, TooLarge) as failure:
            return self._parts(start, end, [], failure)
        return self._client.shaped(_Page, body)["tasks"]

    def _fetch(self, low: int, high: int) -> httpx.Response:
        wanted = self._parameters(FIELDS, [_id("greater", low - 1), _id("less", high + 1)], high - low + 1, **WHOLE)
        return self._client.call("GET", "/api/tasks", params=wanted)

    def _range(self, low: int, high: int, only: list[Condition], attempts: int = 0) -> list[Any]:
        conditions = [*only, _id("greater", low - 1), _id("less", high + 1)]
        body = self._json(FIELDS, conditions, high - low + 1, attempts=attempts, **WHOLE)
        return self._client.shaped(_Page, body)["tasks"]

    def _parts(self, low: int, high: int, only: list[Condition], failure: UserError) -> list[Any]:
        """The tasks of a range that could not be read as a whole, but for those that the server fails over."""
        if isinstance(failure, Unavailable) and failure.status not in PARTED:
            raise failure
        if low == high:
            self._leave_out(low, failure)
            return []
        middle = (low + high) // 2
        found: list[Any] = []
        for start, end in ((low, middle), (middle + 1, high)):
            try:
                found += self._range(start, end, only, FEW)
            except (Unavailable, TooLarge) as other:
                found += self._parts(start, end, only, other)
        return found

    def _leave_out(self, number: int, failure: UserError) -> None:
        self._count += 1
        if self._lost is None or self._count > MOST_LOST:
            raise failure
        self._lost(number, "more than can be read" if isinstance(failure, TooLarge) else "the server fails to give it")

    def _ends(self) -> tuple[int, int, int]:
        """The lowest and the highest id of the tasks, and their number."""
        low, high = (self._json("id", [], 1, order) for order in ("tasks:id", "-tasks:id"))
        first, last = self._numbers(low), self._numbers(high)
        return (first[0], last[0], int(low.get("total") or 0)) if first and last else (0, -1, 0)

    def _json(self, *which: Any, attempts: int = 0, **options: Any) -> Any:
        return self._client.json("GET", "/api/tasks", attempts, params=self._parameters(*which, **options))

    def _parameters(
        self, include: str, conditions: list[Condition], size: int, order: str = "tasks:id", **options: Any
    ) -> dict[str, Any]:
        query = json.dumps({"filters": {"conjunction": "and", "items": conditions}, "ordering": [order]})
        return {"project": self._project, "page": 1, "page_size": size, "include": include, "query": query} | options

    def _numbers(self, body: Any) -> list[int]:
        return [task["id"] for task in self._client.shaped(_Numbers, body)["tasks"]]

    def _further(self, last: int, numbers: list[int]) -> int:
        """The highest id of a page. UserError if it is not above the last one: such a listing has no end."""
        if max(numbers) <= last:
            raise UserError(f"{self._client.url} lists the same tasks again and again.", "Check the server and its version.")
        return max(numbers)


def _id(operator: str, value: int) -> Condition:
    return _condition("id", operator, "Number", value)


def _condition(column: str, operator: str, kind: str, value: Any) -> Condition:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
