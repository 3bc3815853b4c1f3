"""A section of a report page: rendered from a template, with pictures inside it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: `html` is trusted markup (rendered by `render`, which escapes all data)."""

    title: str
    html: str


def render(template: str, **data: Any) -> str:
    """Render a template of `fgr/report/templates`; everything in `data` is escaped unless the template says otherwise."""
    return _environment().get_template(template).render(**data)


def data_uri(image: bytes) -> str:
    """An encoded PNG, JPEG or WebP as a data URI."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg" if image.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def dotted(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A resolved recipe as (dotted key, value) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        rows += dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", str(value))]
    return rows


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("fgr.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
