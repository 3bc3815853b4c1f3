"""How good a reward model is on a split of a dataset, beside the baselines that it must beat."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import __version__
from fgr.dataset.tables import evenly_drawn
from fgr.devices import choose_device
from fgr.images.arrays import as_tensor
from fgr.metrics import maps as map_metrics
from fgr.progress import Progress
from fgr.reward import baselines, splits
from fgr.reward.data import Samples
from fgr.reward.pretrained import load_reward_model
from fgr.reward.score import score
from fgr.reward.summary import summary
from fgr.training import directory as runs

Record = dict[str, Any]
ROW = ("id", "source_id", "photo_id", "model", "mask_kind", "mask_area", "score")


def evaluate_reward_model(reward: str, data: str, split: str, limit: int | None, device: str = "auto") -> dict[str, Any]:
    """The summary of a reward model on a split of a dataset, at most `limit` rows drawn evenly, and its protocol. UserError."""
    model = load_reward_model(reward, choose_device(device))
    rows = splits.open_split(data, split)
    if limit and limit < len(rows):
        rows = rows.select(evenly_drawn(len(rows), limit))
    run = _run_of(Path(reward))
    held_out = runs.read(run)["recipe"]["data"]["exclude_models"] if run else []
    base = load_reward_model(run / "base", choose_device(device)) if run and (run / "base").is_dir() else None
    found = []
    with Progress("rows", len(rows), "rows") as progress:
        for record in records(model, rows, (lambda image: base(image)[0]) if base else None):
            found.append(record)
            progress.advance()
    protocol = {
        "fgr": __version__, "reward": str(reward), "model": model.settings, "data": str(data), "split": split, "rows": len(rows),
        "positive": map_metrics.POSITIVE, "kld_epsilon": map_metrics.EPSILON, "images": "whole, 8-bit RGB, no resizing",
    }  # fmt: skip
    return {"protocol": protocol} | summary(found, held_out)


def records(
    model: Any, rows: Any, base: Callable[[torch.Tensor], torch.Tensor] | None = None, tile: int = 1024
) -> Iterator[Record]:
    """For each row: scores and map figures of `model` and of the baselines on composite, SR image and reference.

    `base` is S_base, evaluated on the references. A record: the row's own columns; `scores`: name → (sr, composite, reference);
    `maps`: name → figures of the composite's map (see maps.map_figures); `clean`: mean and mean square of the reference's
    map; `base`: S_base; `bins`: reliability of the composite's map.
    """
    samples = Samples(rows, crop=0)
    device = next(model.parameters()).device
    for row in rows:
        arrays = samples.decode(row)
        target = arrays["target"].astype(np.float32) / 65535
        record: Record = {name: row[name] for name in ROW}
        images = {name: arrays[name] for name in ("sr", "composite", "reference")}
        scores, maps = _score_all(model, images, tile)
        record["scores"] = {"model": scores} | {
            name: [score(image) for image in images.values()] for name, score in baselines.SCORES.items()
        }
        record["scores"]["mask area (oracle)"] = [-1.0, -float(row["mask_area"]), 0.0]
        record["clean"] = {"mean": float(maps["reference"].mean()), "mse": float(np.square(maps["reference"]).mean())}
        record["maps"] = _maps(maps["composite"], arrays, target)
        record["bins"] = map_metrics.reliability(maps["composite"], target)
        if base is not None:
            with torch.inference_mode():
                record["base"] = float(base(as_tensor([images["reference"]], device)))
        yield record


def _score_all(model: Any, images: dict[str, np.ndarray], tile: int) -> tuple[list[float], dict[str, np.ndarray]]:
    found = {name: score(model, image, tile) for name, image in images.items()}
    return [one[0] for one in found.values()], {name: one[1] for name, one in found.items()}


def _maps(map_: np.ndarray, arrays: dict[str, Any], target: np.ndarray) -> dict[str, dict[str, float]]:
    found = {"model": map_metrics.map_figures(map_, target)}
    if not target.any():
        return found
    composite = arrays["composite"]
    for name, baseline in baselines.MAPS.items():
        found[name] = map_metrics.map_figures(baseline(composite), target)
    found["constant"] = map_metrics.map_figures(np.full_like(target, 0.1), target)
    found["mask (oracle)"] = map_metrics.map_figures(arrays["mask"].astype(np.float32) / 255, target)
    return found


def _run_of(folder: Path) -> Path | None:
    return next((place for place in (folder, folder.parent) if (place / "run.json").is_file()), None)
