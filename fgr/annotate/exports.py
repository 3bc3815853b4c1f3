"""Tasks and annotations as Label Studio gives them, each parsed by itself against a typed model."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fgr.annotate.tasks import KEY, Typed, parsed

YEARS = range(2000, 9000)


def _encodable(text: str) -> str:
    text.encode()  # half of a surrogate pair goes into no table
    return text


def _moment(text: str) -> str:
    if text and datetime.fromisoformat(text).year not in YEARS:
        raise ValueError("a time out of range")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Moment = Annotated[str, AfterValidator(_moment)]
Identity = Annotated[int, Field(strict=True)] | Text


class Person(Typed):
    """An author, as some answers of the server describe them."""

    id: Identity | None = None
    email: Text | None = None


class Annotation(Typed):
    """One person's work on a task; `result` is read by `tasks.read_defects` or `tasks.read_preference`."""

    id: Identity | None = None
    result: list[Any]
    completed_by: Person | Identity | None = None
    was_cancelled: bool | None = None
    lead_time: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None  # seconds
    created_at: Moment | None = None
    updated_at: Moment | None = None


class Task(Typed):
    """A task with its annotations, which are parsed one by one: `Annotation`."""

    id: Identity = "?"
    data: dict[str, Any]
    annotations: list[Any] | None = None
    updated_at: Moment | None = None

    @property
    def key(self) -> str:
        """Our own key: the sample(s) that the task is about; "" for a task of others."""
        key = self.data.get(KEY)
        return key if isinstance(key, str) else ""


def read_task(content: Any) -> Task:
    """A task of the server, of a JSON or of a JSON-MIN export. WorkError for anything else."""
    if isinstance(content, Mapping) and "data" not in content:
        return parsed(Task, _from_min(content), "a task")
    return parsed(Task, content, "a task")


def read_annotation(content: Any) -> Annotation:
    """An annotation of a task. WorkError, naming what does not fit."""
    return parsed(Annotation, content, "an annotation")


def _from_min(item: Mapping[str, Any]) -> dict[str, Any]:
    """A task of the full form from one of JSON-MIN: there severities have no ids, and belong to the stroke they repeat."""
    ratings = {_code(value): value.get("rating") for value in _values(item.get("severity"))}
    result: list[dict[str, Any]] = []
    for i, value in enumerate(_values(item.get("defect"))):
        size = {name: value.get(name) for name in ("original_width", "original_height")}
        result.append({"id": f"r{i}", "from_name": "defect", "value": value} | size)
        rating = ratings.get(_code(value))
        result += [{"id": f"r{i}", "from_name": "severity", "value": {"rating": rating}}] if rating else []
    result += [{"from_name": "score", "value": value} for value in _values(item.get("score"), "number")]
    result += [{"from_name": "comment", "value": value} for value in _values(item.get("comment"), "text")]
    result += [{"from_name": "preference", "value": {"choices": [item["preference"]]}}] if "preference" in item else []
    same = {name: item.get(name) for name in ("created_at", "updated_at", "lead_time")}
    work = same | {"completed_by": item.get("annotator"), "result": result}
    return {"id": item.get("id", "?"), "data": {KEY: item.get(KEY)}, "annotations": [work]}


def _code(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value.get("rle"))
    except RecursionError:
        return ""


def _values(found: Any, plain: str = "") -> Iterable[dict[str, Any]]:
    listed = found if isinstance(found, list) else [] if found is None else [found]
    return [value if isinstance(value, dict) else {plain: value} for value in listed]
