"""Gradient ascent on a reward model within a step or two of 8 bits: what an adversary gains.

It is a stronger adversary than any SR network that is tuned, and no reward model is known to resist it; beside random steps of
the same size it says how much of the gap lies in directions that only a gradient finds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fgr.images.arrays import as_images, as_tensor
from fgr.reward.planted_probe import STEPS, WORST, Probe, judged

ITERATIONS = 10


def ascent(model: Any, probe: Probe, steps: Sequence[int] = STEPS) -> dict[str, Any]:
    """By step: what `probe.compared` says of the SR outputs of its pairs after ascent within ± that many 255ths, beside that of
    `probe.random`. Score and map are ascended together, each in units of its gap; a figure without a gap is left out."""
    random = probe.random(steps)
    found = {}
    for step in steps:
        ascended = [ascend(model, image, step, probe) for image in probe.pairs.outputs]
        found[str(step)] = {
            "ascent": probe.compared(probe.outputs, judged(probe.judge, ascended)), "random": random[str(step)],
        }  # fmt: skip
    return found


def ascend(model: Any, image: np.ndarray, step: int, probe: Probe, iterations: int = ITERATIONS) -> np.ndarray:
    """A uint8 (H, W, 3) image after ascent by the sign of the gradient (PGD), no value changed by more than `step`."""
    weights = {name: 1 / gap["mean"] for name, gap in probe.gap().items() if gap["mean"] > 0}
    start = as_tensor([image], next(model.parameters()).device)
    most, pixels = step / 255, start.clone()
    rate = 2.5 * most / iterations
    for _ in range(iterations):
        pixels.requires_grad_(True)
        with torch.enable_grad():
            score, map_ = model(pixels)[:2]
            count = max(1, round(WORST * map_[0].numel()))
            worst = map_.flatten(1).topk(count, dim=1).values.mean(1)
            reward = (score * weights.get("score", 0.0 if "map" in weights else 1.0) - worst * weights.get("map", 0.0)).sum()
            (slope,) = torch.autograd.grad(reward, pixels)
        pixels = (start + (pixels.detach() + rate * slope.sign() - start).clamp(-most, most)).clamp(0, 1)
    return as_images(pixels)[0]
