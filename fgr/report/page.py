"""`fgr report`: one self-contained HTML page about a directory, joined from the sections that apply to it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.errors import UserError


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: `html` is trusted markup (rendered by `render`, which escapes all data)."""

    title: str
    html: str


def write(directory: Path, out: Path | None = None, rows: int = 6) -> Path:
    """Write the page about `directory` to `out` (default: report.html in it) and return its path.

    `rows` bounds how many samples each gallery shows. UserError if the directory is nothing that fgr makes.
    """
    title, sections = _sections(directory, rows)
    out = out or directory / "report.html"
    atomic.write_text(out, render("page.html", title=title, sections=sections))
    return out


def _sections(directory: Path, rows: int) -> tuple[str, list[Section]]:
    from fgr.report import annotation, dataset

    if not directory.is_dir():
        raise UserError(f"There is no folder {directory}.", "Give a dataset directory, such as one made by fgr generate.")
    if (directory / "fgr.json").is_file() or (directory / ".fgr").is_dir():
        builders: list[Callable[[Path, int], Section | None]] = [
            dataset.summary, dataset.distributions, dataset.gallery,
            annotation.coverage, annotation.scores, annotation.contested, annotation.preferences,
        ]  # fmt: skip
        return dataset.title(directory), [section for build in builders if (section := build(directory, rows))]
    if (directory / "run.json").is_file():
        return _run(directory, rows)
    raise UserError(f"{directory} is nothing that fgr makes.", "Give a dataset directory, such as one made by fgr generate.")


def _run(directory: Path, rows: int) -> tuple[str, list[Section]]:
    from fgr.report import training, tuning
    from fgr.training import directory as runs

    if runs.read(directory)["kind"] == "rlhf":
        parts: list[Callable[[Path, int], Section | None]] = [tuning.summary, tuning.curves, tuning.comparison, tuning.gallery]
        return tuning.title(directory), [section for build in parts if (section := build(directory, rows))]
    parts = [training.summary, training.curves, training.scores, training.gallery]
    return training.title(directory), [section for build in parts if (section := build(directory, rows))]


def render(template: str, **data: Any) -> str:
    """Render a template of `fgr/report/templates`; everything in `data` is escaped unless the template says otherwise."""
    return _environment().get_template(template).render(**data)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("fgr.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
