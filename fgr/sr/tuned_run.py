"""A finished run of `fgr rlhf` as an SR model: the name and summary of its best network."""

import json
from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.sr.spec import LORA, parse_name

BEST, SUMMARY = "best.safetensors", "summary.json"


def model_of(run: Path) -> str:
    """`spandrel:RUN/best.safetensors`, or NAME+lora:RUN/best.safetensors where low-rank changes of a diffusion model were tuned.

    UserError if the run is not a finished one of fgr rlhf.
    """
    tuned = parse_name(str(summary_of(run)["generator"]["name"]))
    return f"{tuned.base}{LORA}{run / BEST}" if tuned.kind == "diffusion" else f"spandrel:{run / BEST}"


def summary_of(run: Path) -> dict[str, Any]:
    """RUN/summary.json. UserError if it is not there, or the weights are not."""
    for name in (SUMMARY, BEST):
        if not (run / name).is_file():
            raise UserError(
                f"{run} is not a finished run of fgr rlhf: it has no {name}.",
                "Run its fgr rlhf command again to finish it, or name another folder.",
            )
    try:
        found = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        _ = found["generator"]["name"], found["metrics"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f"{run / SUMMARY} is damaged.", "Restore it.") from None
    return dict(found)
