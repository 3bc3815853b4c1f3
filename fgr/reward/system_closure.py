"""Gap closure of SR networks by a reward model and by figures that no reward bought.

A network that was tuned against a reward model until it was hacked closes much of the gap by that model and next to none by
1 − SSIM or a feature distance. By a model worth having it closes little more than by those.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr.dataset import cells
from fgr.errors import UserError
from fgr.images import degrade
from fgr.images.arrays import as_tensor
from fgr.metrics.gap_closure import Gap, compared
from fgr.metrics.registry import Metric, Options, open_metric
from fgr.reward.planted_probe import Judge, judged
from fgr.sr import Job, NonFiniteOutput, Upscaler, open_upscaler
from fgr.sr.tuned_run import model_of, summary_of

BETTER = {"score": 1, "map": -1}  # of the reward model; distances to the reference: smaller
REFERENCE_FIGURES = ("ssim", "lite0-distance")
Figures = dict[str, np.ndarray]


class SystemClosure:
    """Networks, opened and checked before anything is judged. `start` is what they were tuned from; runs of fgr rlhf say it."""

    def __init__(self, systems: Sequence[str], start: str | None, scale: int, device: str) -> None:
        if len(set(systems)) < len(systems):
            raise UserError("A system is named twice.", "Name each once.")
        self.start_name = start or _start_of(systems)
        self.start = _open(self.start_name, scale, device)
        self.systems = {name: _open(name, scale, device) for name in systems}
        self.device = device
        self.metrics, self.missing = _metrics(device)

    def measure(self, judge: Judge, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """By system `closure` by figure, `lead` of score and map over 1 − SSIM, and `above_reference`, with intervals.

        `missing`: figures whose weights are not here, and why. UserError: outputs that are not finite, no input to replay.
        """
        rows = [row for row in rows if "scale" in json.loads(row["degradation"])]  # the inputs of others were made elsewhere
        if not rows:
            raise UserError("No low-resolution input of the dataset can be made again.", "Leave --systems out.")
        references = [cells.pixels(row, "reference") for row in rows]
        lows = [degrade.apply(image, json.loads(row["degradation"])) for image, row in zip(references, rows, strict=True)]
        photographs = [str(row["photo_id"]) for row in rows]
        goal = _of_judge(judge, references) | {name: np.zeros(len(rows)) for name in self.metrics}
        start = self._figures(judge, self.start, lows, references)
        found = {}
        for name, system in self.systems.items():
            output = self._figures(judge, system, lows, references)
            gaps = {figure: Gap(start[figure], output[figure], goal[figure], BETTER.get(figure, -1)) for figure in goal}
            found[name] = compared(gaps, list(BETTER), "1 − ssim", photographs) | {"digest": system.digest}
        return {
            "start": {"name": self.start_name, "digest": self.start.digest}, "systems": found, "images": len(rows),
            "photographs": len(set(photographs)), "missing": self.missing,
        }  # fmt: skip

    def _figures(self, judge: Judge, system: Upscaler, lows: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> Figures:
        jobs = [Job(low, f"image {number}", low.shape[:2], (0, 0, low.shape[0])) for number, low in enumerate(lows)]
        try:
            outputs = [system.upscale([job])[0] for job in jobs]
        except NonFiniteOutput as error:
            raise UserError(f"The outputs of {system.name} cannot be judged: {error}.", "Check its weights.") from None
        found = _of_judge(judge, outputs)
        for name, metric in self.metrics.items():
            values = [
                metric.value(as_tensor([output], self.device), as_tensor([reference], self.device))
                for output, reference in zip(outputs, references, strict=True)
            ]
            found[name] = np.array(values) if metric.lower_is_better else 1 - np.array(values)
        return found


def _of_judge(judge: Judge, images: Sequence[np.ndarray]) -> Figures:
    found = judged(judge, images)
    return {"score": found.scores, "map": found.severities}


def _metrics(device: str) -> tuple[dict[str, Metric], dict[str, str]]:
    """Distances to the reference; one whose weights are not on this machine is left out, with the reason."""
    found, missing = {}, {}
    for name in REFERENCE_FIGURES:
        try:
            metric = open_metric(name, Options(device))
        except UserError as error:
            missing[name] = error.message
        else:
            found[name if metric.lower_is_better else f"1 − {name}"] = metric
    return found, missing


def _start_of(systems: Sequence[str]) -> str:
    """The network that runs of fgr rlhf were tuned from."""
    runs = [Path(name) for name in systems if (Path(name) / "run.json").is_file()]
    starts = {str(summary_of(run)["generator"]["name"]) for run in runs}
    if len(starts) != 1 or len(runs) < len(systems):
        raise UserError(
            "The network that the systems were tuned from is not known.",
            "Name it with --start, for example realesr-animevideov3.",
        )
    return starts.pop()


def _open(name: str, scale: int, device: str) -> Upscaler:
    folder = Path(name).expanduser()
    return open_upscaler(model_of(folder) if (folder / "run.json").is_file() else name, scale=scale, device=device)
