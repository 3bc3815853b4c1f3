"""Claim 1's measurements: how well maps find the swapped-in regions of the test set, and in what order scores put them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import atomic
from fgr.images import codec
from fgr.metrics import maps as metrics
from fgr.reward import baselines as trivial
from fgr.reward import splits
from fgr.reward.data import Samples
from fgr.reward.pretrained import load_stages
from fgr.reward.score import overlay, score

WINDOW, STRIDE = 64, 32  # pixels of RM_0's sliding windows
INSIDE, VISIBLE = 0.5, 0.1  # of the mask: a pixel that is mostly the SR model's; of the labelled map: one that is visibly worse
CLASSES = ("mask", "map")
COLUMNS = ("id", "photo_id", "mask_kind", "mask_area")
PixelMap = Callable[[np.ndarray], np.ndarray]


def records(reward: Path, data: Path, rows: int, device: str, folder: Path, pictures: int) -> list[dict[str, Any]]:
    """A record a row: of composites, average precision by positive class and by name of who drew the map; of sham rows, the mean
    of RM_N's; of both, the scores of sr, composite and reference by RM_N. `folder` gets the maps of the first `pictures`."""
    stages = load_stages(reward, "cuda" if device == "cuda" else "cpu")
    drawn = maps_of(stages[0])
    chosen = spread(splits.open_split(str(data), "train"), rows)
    samples, found, shown = Samples(chosen, crop=0), [], 0
    for row in chosen:
        arrays = samples.decode(row)
        record, map_ = _record(stages[-1], drawn, row, arrays)
        found.append(record)
        if record["ap"] and shown < pictures and row["mask_area"] > 0.03:
            _draw(folder / str(shown), drawn, arrays, map_)
            shown += 1
    return found


def spread(rows: Any, most: int) -> Any:
    """At most `most` rows, evenly over the set."""
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)))


def maps_of(global_model: Any) -> dict[str, PixelMap]:
    """What a map must beat: those that need no learning, and what a global score says about places."""
    return trivial.MAPS | {
        "RM_0 gradient": lambda image: input_gradient(global_model, image),
        "RM_0 windows": lambda image: windows(global_model, image),
    }


def input_gradient(model: Any, image: np.ndarray) -> np.ndarray:
    """Smoothed magnitude of the score's gradient by the pixels, float32 (H, W)."""
    from scipy.ndimage import gaussian_filter

    leaf = _tensor(model, image).requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[0].sum(), leaf)
    return gaussian_filter(gradient.abs().sum(1)[0].cpu().numpy(), 4.0)


@torch.no_grad()
def windows(model: Any, image: np.ndarray) -> np.ndarray:
    """How low the score of overlapping windows is, between their centres interpolated, float32 (H, W)."""
    whole = _tensor(model, image)
    tiles = whole.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)
    down, across = tiles.shape[2:4]
    values = -model(tiles[0].permute(1, 2, 0, 3, 4).reshape(-1, 3, WINDOW, WINDOW))[0].view(1, 1, down, across)
    return torch.nn.functional.interpolate(values, whole.shape[-2:], mode="bilinear")[0, 0].cpu().numpy()


def _record(
    model: Any, drawn: Mapping[str, PixelMap], row: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    target, mask = arrays["target"].astype(np.float32) / 65535, arrays["mask"].astype(np.float32) / 255
    values = {name: score(model, arrays[name]) for name in ("sr", "composite", "reference")}
    map_ = values["composite"][1]
    record: dict[str, Any] = {name: row[name] for name in COLUMNS} | {"mean": float(map_.mean()), "ap": {}}
    record["scores"] = [value for value, _ in values.values()]
    inside = {"mask": mask > INSIDE, "map": target > VISIBLE}
    record["prevalence"] = {name: float(one.mean()) for name, one in inside.items()}
    if row["mask_kind"] not in ("sham", "full") and all(one.any() for one in inside.values()):
        found = {"RM_N": map_} | {name: draw(arrays["composite"]) for name, draw in drawn.items()}
        record["ap"] = {name: precisions(one, list(inside.values())) for name, one in found.items()}
    return record, map_


def precisions(map_: np.ndarray, classes: list[np.ndarray]) -> dict[str, float]:
    """Average precision of finding each class of pixels, bool (H, W); 0 for a map that is no number."""
    found = metrics.detection(np.ascontiguousarray(map_, np.float32), classes)
    return {name: value if np.isfinite(value) else 0.0 for name, (value, _) in zip(CLASSES, found, strict=True)}


def _draw(stem: Path, drawn: Mapping[str, PixelMap], arrays: Mapping[str, Any], map_: np.ndarray) -> None:
    composite, target = arrays["composite"], arrays["target"].astype(np.float32) / 65535
    found = {"composite": composite, "target": overlay(composite, target), "RM_N": overlay(composite, map_)}
    for name in ("RM_0 gradient", "RM_0 windows", "flatness"):
        one = drawn[name](composite)
        found[name] = overlay(composite, (one - one.min()) / max(float(np.ptp(one)), 1e-9))
    for name, image in found.items():
        atomic.write_bytes(stem.with_name(f"{stem.name}-{name.replace(' ', '_')}.webp"), codec.encode_rgb(image))


def _tensor(model: Any, image: np.ndarray) -> torch.Tensor:
    device = next(model.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device).float() / 255
