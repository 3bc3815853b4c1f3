"""A reward model as a package for the Hub: opened and tried, its card written."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fgr import __version__, atomic
from fgr.errors import UserError
from fgr.publish.package import CARD, Package
from fgr.publish.templates import render
from fgr.reward import score_scale
from fgr.tensors import file_digest
from fgr.training import directory as runs

WEIGHTS = "model.safetensors"
FIGURES = {
    "ap": "average precision of the map", "cc": "correlation of the map with its target", "triplets": "triplets in order",
    "sham": "mean map where it should be 0", "total": "loss",
}  # fmt: skip


def pack_reward_model(folder: Path, name: str, *, write: bool) -> Package:
    """Open the reward model of a run (its last stage) or of a stage folder, try it, and write its card unless not `write`.

    A run's stages go too, each into a folder of its own, for `fgr rlhf` to optimise against. UserError if it cannot be opened
    or returns a score that is not finite.
    """
    import torch

    from fgr.reward.pretrained import load_reward_model, resolve, stages_of

    stage = resolve(folder)
    model = load_reward_model(stage)
    with torch.inference_mode():
        score, map_ = model(torch.full((1, 3, 64, 64), 0.5))
    if not (torch.isfinite(score).all() and torch.isfinite(map_).all()):
        raise UserError(f"The reward model in {stage} returns NaN or infinity for a grey image.", "Train it again.")
    stages = stages_of(folder) if stage != folder else []
    text = _card(stage, model, name, staged=len(stages) > 1)
    if write:
        atomic.write_text(stage / CARD, text)
    files = [f"{one.name}/{file}" for one in stages for file in ("config.json", WEIGHTS, *_scale(one))]
    beside = Package("model", "the stages of a reward model", folder, files, ["stage-*"]) if len(stages) > 1 else None
    what = f"stage {model.stage} of a reward model"
    return Package("model", what, stage, [CARD, "config.json", WEIGHTS, *_scale(stage)], card=text, beside=beside)


def _card(stage: Path, model: Any, name: str, staged: bool) -> str:
    run = next((place for place in (stage, stage.parent) if (place / "run.json").is_file()), None)
    parameters = sum(one.numel() for one in model.parameters())
    facts = {"settings": model.settings, "parameters": parameters, "digest": file_digest(stage / WEIGHTS)}
    return render("reward.md", name=name, version=__version__, staged=staged, **facts, **_run(run, stage.name))


def _scale(stage: Path) -> list[str]:
    """The file that says what scores mean, where the stage has one."""
    return [score_scale.NAME] if (stage / score_scale.NAME).is_file() else []


def _run(run: Path | None, phase: str) -> dict[str, Any]:
    """What the card says of the run that made the model; of a folder alone nothing is known."""
    if run is None:
        return {"recipe": None, "data": {}, "figures": {}, "rows": 0, "evaluation": None}
    content = runs.read(run)
    recipe = yaml.safe_dump(content["recipe"], sort_keys=False, allow_unicode=True, width=120)
    figures = _last(run, phase)
    rows = content["recipe"].get("data", {}).get("validation", 0)
    data = content["facts"].get("data", {})
    return {"recipe": recipe, "data": data, "figures": figures, "rows": rows, "evaluation": _evaluation(run)}


def _last(run: Path, phase: str) -> dict[str, str]:
    lines = [line for line in runs.metrics(run) if line.get("phase") == phase and line.get("split") == "validation"]
    last = lines[-1] if lines else {}
    return {title: f"{last[key]:.3f}" for key, title in FIGURES.items() if isinstance(last.get(key), float)}


def _evaluation(run: Path) -> dict[str, Any] | None:
    """RUN/evaluation.json, as `fgr evaluate --reward RUN --out RUN/evaluation.json` wrote it, as a table beside the baselines."""
    path = run / "evaluation.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names = [name for name in found["triplets"] if "oracle" not in name]
        rows = [["triplets in order", *(_number(found["triplets"][name], "accuracy") for name in names)]]
        rows.append(["score, SRCC", *(_number(found["score"][name], "srcc") for name in names)])
        rows += [[f"map, {key.upper()}", *(_number(found["maps"].get(name, {}), key) for name in names)] for key in ("ap", "cc")]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} was not written by fgr evaluate.", "Write it again, or move it away.") from None
    return {"names": names, "table": rows} | {key: found[key] for key in ("protocol", "rows", "photos")}


def _number(figures: Mapping[str, Any], key: str) -> str:
    value = figures.get(key)
    return f"{value:.3f}" if isinstance(value, float) and math.isfinite(value) else "–"
