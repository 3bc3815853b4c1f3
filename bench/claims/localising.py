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
INSIDE = 0.5  # of the mask: a pixel that is mostly the SR model's
COLUMNS = ("id", "photo_id", "model", "mask_kind", "mask_area")
PixelMap = Callable[[np.ndarray], np.ndarray]


def records(
    reward: Path, data: Path, rows: int, baselines: bool, device: str, folder: Path, pictures: int
) -> list[dict[str, Any]]:
    """A record a row: figures of the composite's map by name of who drew it, scores of RM_N and RM_0 of sr, composite and
    reference, means of RM_N's map of the reference. `folder` gets the maps of the first `pictures` composites of each engine."""
    stages = load_stages(reward, "cuda" if device == "cuda" else "cpu")
    drawn = maps_of(stages[0], baselines)
    chosen = spread(splits.open_split(str(data), "train"), rows)
    samples, found, shown = Samples(chosen, crop=0), [], dict[str, int]()
    for row in chosen:
        arrays = samples.decode(row)
        record, map_ = _record(stages, drawn, row, arrays)
        found.append(record)
        if "ap" in record["maps"]["RM_N"] and shown.setdefault(row["model"], 0) < pictures and row["mask_area"] > 0.03:
            _draw(folder / f"{row['model']}-{shown[row['model']]}", drawn, arrays, map_)
            shown[row["model"]] += 1
    return found


def spread(rows: Any, most: int) -> Any:
    """At most `most` rows, evenly over the set."""
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)))


def maps_of(global_model: Any, baselines: bool) -> dict[str, PixelMap]:
    """What a map must beat: those that need no learning, and what a global score says about places."""
    if not baselines:
        return {}
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
    stages: list[Any], drawn: Mapping[str, PixelMap], row: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[dict[str, Any], np.ndarray]:
    target, mask = arrays["target"].astype(np.float32) / 65535, arrays["mask"].astype(np.float32) / 255
    values = {name: score(stages[-1], arrays[name]) for name in ("sr", "composite", "reference")}
    map_ = values["composite"][1]
    record: dict[str, Any] = {name: row[name] for name in COLUMNS}
    record["scores"] = {"RM_N": [value for value, _ in values.values()]}
    record["scores"]["RM_0"] = [score(stages[0], arrays[name])[0] for name in values]
    record["clean"] = float(values["reference"][1].mean())
    record["prevalence"] = float((mask > INSIDE).mean())
    record["maps"] = {"RM_N": {"mean": float(map_.mean())}}
    if row["mask_kind"] not in ("sham", "full") and (mask > INSIDE).any():
        found = {"RM_N": map_} | {name: draw(arrays["composite"]) for name, draw in drawn.items()}
        record["maps"] = {name: figures(one, mask, target) for name, one in found.items()}
    return record, map_


def figures(map_: np.ndarray, mask: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Average precision of finding the mask and of finding the target, and correlation with the target (0 for a constant)."""
    found = {"ap": metrics.average_precision(map_, mask, INSIDE), "ap_target": metrics.average_precision(map_, target)}
    found |= {"cc": metrics.correlation(map_, target), "mean": float(map_.mean())}
    return {name: value if np.isfinite(value) else 0.0 for name, value in found.items()}


def _draw(stem: Path, drawn: Mapping[str, PixelMap], arrays: Mapping[str, Any], map_: np.ndarray) -> None:
    composite, target = arrays["composite"], arrays["target"].astype(np.float32) / 65535
    found = {"composite": composite, "target": overlay(composite, target), "RM_N": overlay(composite, map_)}
    for name in ("RM_0 gradient", "RM_0 windows", "flatness"):
        if name in drawn:
            one = drawn[name](composite)
            found[name] = overlay(composite, (one - one.min()) / max(float(np.ptp(one)), 1e-9))
    for name, image in found.items():
        atomic.write_bytes(stem.with_name(f"{stem.name}-{name.replace(' ', '_')}.webp"), codec.encode_rgb(image))


def _tensor(model: Any, image: np.ndarray) -> torch.Tensor:
    device = next(model.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device).float() / 255
