"""A reward model, and what it must beat, on a split of a dataset: one record a row."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from fgr.metrics import maps as metrics
from fgr.reward import baselines
from fgr.reward.data import Samples

Record = dict[str, Any]
ROW = ("id", "source_id", "photo_id", "model", "mask_kind", "mask_area", "score")


def records(
    model: Any, rows: Any, base: Callable[[torch.Tensor], torch.Tensor] | None = None, tile: int = 1024
) -> Iterator[Record]:
    """For each row: scores and map figures of `model` and of the baselines on composite, SR image and reference.

    `base` is S_base, evaluated on the references. A record: the row's own columns; `scores`: name → (sr, composite, reference);
    `maps`: name → figures of the composite's map (see metrics.map_figures); `clean`, `sr_mean`: figures of the model's maps of
    reference and SR image; `base`: S_base; `bins`: reliability of the composite's map.
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
        record["bins"] = metrics.reliability(maps["composite"], target)
        if base is not None:
            with torch.inference_mode():
                record["base"] = float(base(batches_tensor(images["reference"], device)))
        yield record


def batches_tensor(image: np.ndarray, device: torch.device) -> torch.Tensor:
    """A uint8 (H, W, 3) image as float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device).float() / 255


def _score_all(model: Any, images: dict[str, np.ndarray], tile: int) -> tuple[list[float], dict[str, np.ndarray]]:
    from fgr.reward.score import score

    found = {name: score(model, image, tile) for name, image in images.items()}
    return [one[0] for one in found.values()], {name: one[1] for name, one in found.items()}


def _maps(map_: np.ndarray, arrays: dict[str, Any], target: np.ndarray) -> dict[str, dict[str, float]]:
    found = {"model": metrics.map_figures(map_, target)}
    if not target.any():
        return found
    composite = arrays["composite"]
    for name, baseline in baselines.MAPS.items():
        found[name] = metrics.map_figures(baseline(composite), target)
    found["constant"] = metrics.map_figures(np.full_like(target, 0.1), target)
    found["mask (oracle)"] = metrics.map_figures(arrays["mask"].astype(np.float32) / 255, target)
    return found
