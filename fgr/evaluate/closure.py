"""How much of the gap from the first system to the references later ones close, as the audit has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgr.evaluate.testset import Item
from fgr.metrics.gap_closure import Gap, compared
from fgr.metrics.registry import Metric

Record = dict[str, Any]
GOAL = "references"
REWARD_FIGURES = {"score": False, "map_mean": True, "map_worst": True}  # figure → whether lower is better


class References:
    """The references as a system: what the others are on their way to."""

    name, reads_inputs = GOAL, False

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, item: Item) -> np.ndarray:
        assert item.reference is not None
        return item.reference()


def closures(found: Sequence[Record], systems: Sequence[str], metrics: Sequence[Metric]) -> dict[str, Any]:
    """By later system how much of each figure's gap from the first to the references it closes (`metrics.gap_closure`).

    Figures that are not finite, as the PSNR of equal images, have no gap. Empty without records of the references.
    """
    by_system: dict[str, list[Record]] = {}
    for record in found:
        by_system.setdefault(record["system"], []).append(record)
    if GOAL not in by_system:
        return {}
    lower = {metric.name: metric.lower_is_better for metric in metrics} | REWARD_FIGURES
    photos = [record["photo"] for record in by_system[GOAL]]
    values = {
        name: {figure: np.array([row[figure] for row in rows], dtype=float) for figure in lower if figure in rows[0]}
        for name, rows in by_system.items()
    }
    start, *others = systems
    finite = [
        name for name in values[GOAL] if all(np.isfinite(one[name]).all() for one in values.values())
    ]  # PSNR of equals is not
    rewards = [name for name in REWARD_FIGURES if name in finite]
    similarity = next((name for name in ("ssim", "ms-ssim") if name in finite), None)
    return {
        name: compared(
            {one: Gap(values[start][one], values[name][one], values[GOAL][one], -1 if lower[one] else 1) for one in finite},
            rewards, similarity, photos,
        )
        for name in others
    }  # fmt: skip
