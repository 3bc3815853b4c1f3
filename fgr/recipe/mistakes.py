"""What pydantic finds wrong with a recipe, as lines: key – problem – value."""

from typing import Any, Literal, get_args, get_origin

from fgr.errors import nearest


def mistake_line(cls: Any, mistake: Any) -> str:
    """One of the errors of validating a recipe against the model `cls`, with the nearest key for one that is unknown."""
    path, inner = _path(cls, mistake["loc"])
    key = ".".join(path) or "(recipe)"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        message = "unknown key" + nearest(path[-1], list(getattr(inner, "model_fields", {})))
    value = "" if mistake["type"] == "missing" else f" – {mistake['input']!r}"
    return f"{key} – {message}{value if len(value) < 120 else value[:117] + '…'}"


def _path(cls: Any, loc: tuple[Any, ...]) -> tuple[list[str], Any]:
    """The dotted key that pydantic's location means, and the model that holds its last part.

    Where a key is a union told apart by one of its fields, the location names that field's value too: it is left out.
    """
    path: list[str] = []
    parts, inner = list(loc), cls
    while parts:
        part = parts.pop(0)
        path.append(str(part))
        field = getattr(inner, "model_fields", {}).get(part)
        if not parts:
            break
        inner = field.annotation if field else None
        if field and field.discriminator:
            inner = _member(inner, field.discriminator, parts.pop(0))
    return path, inner


def _member(union: Any, discriminator: Any, tag: Any) -> Any:
    """The model of a union whose discriminating field may be `tag`."""
    for member in get_args(union):
        annotation = member.model_fields[discriminator].annotation
        if get_origin(annotation) is Literal and tag in get_args(annotation):
            return member
    return None
