"""Figures on the validation split while a reward model trains."""

from typing import Any

import numpy as np
import torch

from fgr.dataset.tables import evenly_drawn
from fgr.metrics import maps as metrics
from fgr.reward import batches
from fgr.reward.objective import Objective


class Validation:
    """At most `limit` rows, spread over the split, whole; the mean loss, and how well map and score do on them."""

    def __init__(self, rows: Any, limit: int, device: torch.device | str) -> None:
        self.samples = batches.Samples(rows, crop=0, cache_bytes=1 << 30)
        self.chosen, self.device = evenly_drawn(len(rows), limit), device

    def __call__(self, model: Any, objective: Objective, scale: float, cell: int) -> dict[str, float]:
        """Means over the rows of the parts of the loss and, after the first phase, of `ap`, `cc`, `sham` and `triplets`."""
        found: dict[str, list[float]] = {}
        for index in self.chosen:
            batch = {name: torch.as_tensor(value)[None].to(self.device) for name, value in self.samples[(index, 0)].items()}
            figures = {name: float(part) for name, part in objective(model, batch, scale, cell).items()}
            if objective.base is not None:
                figures |= _figures(model, batch, cell)
            for name, value in figures.items():
                if np.isfinite(value):
                    found.setdefault(name, []).append(value)
        return {name: float(np.mean(values)) for name, values in found.items()}


def _figures(model: Any, batch: dict[str, torch.Tensor], cell: int) -> dict[str, float]:
    images = torch.cat([batch[name] for name in ("sr", "composite", "reference")]).float() / 255
    scores, maps = model(images)
    sr, composite, reference = scores.tolist()
    target = batch["target"][0, 0].cpu().numpy()
    figures: dict[str, float] = {}
    if target.any():
        if float(batch["mask"].mean()) < 1:
            figures["triplets"] = float(sr < composite < reference)
    elif cell:
        figures["sham"] = float(maps[1].mean())
    if cell:
        map_ = maps[1, 0].float().cpu().numpy()
        figures |= {"ap": metrics.average_precision(map_, target), "cc": metrics.correlation(map_, target)}
    return figures
