"""`fgr evaluate --reward`: opens what is named, evaluates, and keeps the protocol beside the figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fgr import __version__, atomic
from fgr.dataset.tables import evenly_drawn
from fgr.devices import choose_device
from fgr.metrics import maps as metrics
from fgr.progress import Progress
from fgr.reward import evaluate, splits
from fgr.reward.pretrained import load_reward_model
from fgr.reward.summary import summary
from fgr.training import directory as runs


def judge(reward: str, data: str, split: str, limit: int | None, device: str = "auto") -> dict[str, Any]:
    """The summary of a reward model on a split of a dataset, thinned to `limit` rows, and the protocol it was made by."""
    model = load_reward_model(reward, choose_device(device))
    rows = splits.open_split(data, split)
    if limit and limit < len(rows):
        rows = rows.select(evenly_drawn(len(rows), limit))
    run = _run_of(Path(reward))
    held_out = runs.read(run)["recipe"]["data"]["exclude_models"] if run else []
    base = load_reward_model(run / "base", choose_device(device)) if run and (run / "base").is_dir() else None
    found = []
    with Progress("rows", len(rows), "rows") as progress:
        for record in evaluate.records(model, rows, (lambda image: base(image)[0]) if base else None):
            found.append(record)
            progress.advance()
    protocol = {
        "fgr": __version__, "reward": str(reward), "model": model.settings, "data": str(data), "split": split, "rows": len(rows),
        "positive": metrics.POSITIVE, "kld_epsilon": metrics.EPSILON, "images": "whole, 8-bit RGB, no resizing",
    }  # fmt: skip
    return {"protocol": protocol} | summary(found, held_out)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a summary as JSON, what is not finite as null."""
    atomic.write_text(path, json.dumps(_plain(result), indent=1, ensure_ascii=False) + "\n")


def _run_of(folder: Path) -> Path | None:
    return next((place for place in (folder, folder.parent) if (place / "run.json").is_file()), None)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
