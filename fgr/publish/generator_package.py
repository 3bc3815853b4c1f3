"""A tuned SR network as a package for the Hub: opened and tried, its card written."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fgr import __version__, atomic
from fgr.errors import UserError
from fgr.licenses import hub_license
from fgr.publish.package import CARD, Consent, Package, path_warnings
from fgr.publish.sharing import expect_shareable, tuned_from
from fgr.publish.templates import render
from fgr.sr import Job, NonFiniteOutput, open_upscaler, parse_name
from fgr.sr.tuned_run import BEST, SUMMARY, model_of, summary_of
from fgr.tensors import file_digest, read_tensors
from fgr.training import directory as runs

SHOWN = ("before", "after", "difference")  # pictures of an example that the card shows
EXAMPLES = 3


def pack_generator(run: Path, name: str, consent: Consent, *, write: bool) -> Package:
    """Open the best network of a run of fgr rlhf, try it, and write the card unless not `write`.

    UserError: the run is not finished, the network does not open or gives no image, the licence of what was tuned forbids it.
    """
    summary, content = summary_of(run), runs.read(run)
    generator = {"name": summary["generator"]["name"], "license": summary.get("license", "unknown")}
    warnings = expect_shareable([tuned_from(**generator)], "networks tuned from it", consent)
    diffusion = parse_name(model_of(run)).kind == "diffusion"
    if diffusion:
        _expect_numbers(run / BEST)
    else:
        _try(model_of(run), int(summary["scale"]))
    named = [str(generator["name"]), *content["recipe"].get("audit", {}).get("rewards", [])]
    warnings += path_warnings("Card, run.json and the weights", named)
    examples = _examples(run, summary)
    text = render(
        "generator.md", name=name, version=__version__, diffusion=diffusion, base=parse_name(generator["name"]).base,
        generator=generator, license=hub_license(str(generator["license"])), digest=file_digest(run / BEST), summary=summary,
        rows=_rows(summary), examples=examples, shown=SHOWN,
        recipe=yaml.safe_dump(content["recipe"], sort_keys=False, allow_unicode=True, width=120), facts=content["facts"],
    )  # fmt: skip
    if write:
        atomic.write_text(run / CARD, text)
    files = [CARD, BEST, SUMMARY, "run.json", *(f"examples/{file}" for row in examples for file in row)]
    return Package("model", "a tuned SR network", run, files, ["examples/*"], warnings, text)


def _try(name: str, scale: int) -> None:
    grey = np.random.default_rng(0).integers(96, 160, (48, 48, 3)).astype(np.uint8)
    try:
        output = open_upscaler(name, scale=scale).upscale([Job(grey, "grey", (48, 48), (0, 0, 48))])[0]
    except NonFiniteOutput as error:
        raise UserError(
            f"The tuned network does not produce an image: {error}.", "Lower the learning rate and tune it again."
        ) from None
    if output.shape != (48 * scale, 48 * scale, 3):
        raise UserError(f"The tuned network returns {output.shape[1]}×{output.shape[0]} pixels for 48×48.", "Tune it again.")


def _expect_numbers(file: Path) -> None:
    """Low-rank changes need their diffusion model to be tried; here only that every number is one."""
    if not all(bool(value.isfinite().all()) for value in read_tensors(file).values()):
        raise UserError(f"{file} contains NaN or infinite values.", "Lower the learning rate and tune it again.")


def _examples(run: Path, summary: dict[str, Any]) -> list[list[str]]:
    """File names of the pictures of the first examples that are there."""
    found = [
        [f"{number}-{view}.webp" for view in SHOWN if view in views]
        for number, views in enumerate(summary.get("examples", [])[:EXAMPLES])
    ]
    return [row for row in found if row and all((run / "examples" / file).is_file() for file in row)]


def _rows(summary: dict[str, Any]) -> list[list[str]]:
    names = ("start", "end", "difference", "low", "high")
    rows = []
    for one in summary["metrics"]:
        start, end, difference, low, high = (_number(one.get(name)) for name in names)
        better = "↑" if one.get("better", 1) > 0 else "↓"
        held_out = "" if one.get("counts") else " (not held out)"
        rows.append([f"{one['metric']} {better}{held_out}", start, end, f"{difference} [{low}, {high}]"])
    return rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else "–"
