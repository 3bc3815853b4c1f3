"""`fgr report`: one HTML page that opens offline, joined from the sections that apply to a directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fgr import atomic
from fgr.errors import UserError
from fgr.report import annotation_sections, dataset_sections, explorer, reward_sections, tuning_sections
from fgr.report.section import Section, render
from fgr.training import directory as runs

SAMPLES = 300  # of a dataset that a page lets one look through
Build = Callable[[Path, int], Section | None]  # (directory, samples in a gallery) → a section, if it applies

TITLES: dict[str, Callable[[Path], str]] = {
    "dataset": dataset_sections.title,
    "reward": reward_sections.title,
    "rlhf": tuning_sections.title,
}
SECTIONS: dict[str, Sequence[Build]] = {
    "dataset": (
        dataset_sections.summary, dataset_sections.distributions, annotation_sections.coverage, annotation_sections.scores,
        annotation_sections.contested, annotation_sections.preferences,
    ),
    "reward": (
        reward_sections.verdict, reward_sections.curves, reward_sections.rounds, reward_sections.scores, reward_sections.gallery,
        reward_sections.summary,
    ),
    "rlhf": (
        tuning_sections.verdict, tuning_sections.curves, tuning_sections.comparison, tuning_sections.planted,
        tuning_sections.gallery, tuning_sections.summary,
    ),
}  # fmt: skip


def write(directory: Path, out: Path | None = None, rows: int = 6, samples: int = SAMPLES) -> Path:
    """Write the page about `directory` to `out` (default: report.html in it) and return its path.

    `rows` bounds how many pictures each gallery of a run or of annotations shows, `samples` how many samples of a dataset can be
    looked through. UserError if the directory is neither a dataset nor a training run.
    """
    kind = _kind(directory)
    out = out or directory / "report.html"
    sections = [section for build in SECTIONS[kind] if (section := build(directory, rows))]
    if kind == "dataset":
        sections.insert(2, explorer.section(directory, out, samples))  # after summary and distributions
    atomic.write_text(out, render("page.html", title=TITLES[kind](directory), sections=sections))
    return out


def _kind(directory: Path) -> str:
    hint = "Name a dataset directory made by fgr generate, or a run of fgr train-rm or fgr rlhf."
    if not directory.is_dir():
        raise UserError(f"There is no folder {directory}.", hint)
    if (directory / "fgr.json").is_file():
        return "dataset"
    if (directory / "run.json").is_file():  # a run with mined rounds has a folder .fgr as well
        return "rlhf" if runs.read(directory)["kind"] == "rlhf" else "reward"
    if (directory / ".fgr").is_dir():
        return "dataset"
    raise UserError(f"{directory} is neither a dataset nor a training run: it has no fgr.json or run.json.", hint)
