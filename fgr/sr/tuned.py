"""What `fgr rlhf` leaves, as an SR model: the name by which the best network of a run is opened."""

import json
from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.records import current_figures
from fgr.sr.diffusion import MARK
from fgr.sr.diffusion.releases import DIFFUSION

BEST, SUMMARY = "best.safetensors", "summary.json"


def of_run(run: Path) -> str:
    """`spandrel:RUN/best.safetensors`, or NAME+lora:RUN/best.safetensors where low-rank changes of a diffusion model were tuned.

    UserError if the run is not a finished one of fgr rlhf.
    """
    base = str(summary_of(run)["generator"]["name"]).partition(MARK)[0]
    return f"{base}{MARK}{run / BEST}" if base.partition("@")[0] in DIFFUSION else f"spandrel:{run / BEST}"


def summary_of(run: Path) -> dict[str, Any]:
    """RUN/summary.json. UserError if it is not there, or the weights are not."""
    for name in (SUMMARY, BEST):
        if not (run / name).is_file():
            raise UserError(
                f"{run} is no finished run of fgr rlhf: it has no {name}.",
                "Run its fgr rlhf command again to finish it, or name another folder.",
            )
    try:
        found = json.loads((run / SUMMARY).read_text(encoding="utf-8"), object_hook=current_figures)
        _ = found["generator"]["name"], found["metrics"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f"{run / SUMMARY} is damaged.", "Restore it.") from None
    return dict(found)
