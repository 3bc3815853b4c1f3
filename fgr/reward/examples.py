"""Examples of a finished run: scores and maps of validation rows, pictures of the best and worst."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.images import codec
from fgr.metrics import maps as metrics
from fgr.reward.score import overlay, score

SHOWN = 4  # pictures of each group
GROUPS = ("Best localised", "Worst localised", "Should be empty")


def write(model: Any, samples: Any, chosen: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Write `examples.json` and `examples/…webp` into the run `folder`, of rows `chosen` of a data.Samples without crops.

    The rows' figures, as `examples.json` has them.
    """
    rows = [_figures(model, samples.decode(row := samples.rows[index]), row) | {"row": int(index)} for index in chosen]
    groups = pick(rows)
    shown = {row["row"]: row["id"] for group in groups.values() for row in group}
    for index, id in shown.items():
        for name, image in _pictures(model, samples.decode(samples.rows[index])).items():
            atomic.write_bytes(folder / "examples" / f"{id}-{name}.webp", codec.encode_rgb(image))
    named = {name: [row["id"] for row in group] for name, group in groups.items()}
    atomic.write_text(folder / "examples.json", json.dumps(atomic.finite({"rows": rows, "groups": named}), indent=1) + "\n")
    return rows


def pick(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows to show: highest and lowest correlation of the map with its target, and the strongest maps on sham rows."""
    defective = sorted((row for row in rows if row["cc"] is not None), key=lambda row: -row["cc"])
    empty = sorted((row for row in rows if row["mask_kind"] == "sham"), key=lambda row: -row["map_mean"])
    worst = defective[max(SHOWN, len(defective) - SHOWN) :][::-1]
    return dict(zip(GROUPS, (defective[:SHOWN], worst, empty[:SHOWN]), strict=True))


def _figures(model: Any, sample: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    value, map_ = score(model, sample["composite"])
    target = sample["target"].astype(np.float32) / 65535
    correlation = metrics.correlation(map_, target)
    figures = {"id": row["id"], "model": row["model"], "mask_kind": row["mask_kind"], "mask_area": row["mask_area"]}
    figures |= {"label": row["score"], "score": value, "map_mean": float(map_.mean()), "target_mean": float(target.mean())}
    other_scores = {f"score_{name}": score(model, sample[name])[0] for name in ("reference", "sr")}
    return figures | other_scores | {"cc": correlation if np.isfinite(correlation) else None}


def _pictures(model: Any, sample: Mapping[str, Any]) -> dict[str, np.ndarray]:
    composite = sample["composite"]
    _, map_ = score(model, composite)
    target = sample["target"].astype(np.float32) / 65535
    overlays = {"target": overlay(composite, target), "predicted": overlay(composite, map_)}
    return {"reference": sample["reference"], "composite": composite} | overlays
