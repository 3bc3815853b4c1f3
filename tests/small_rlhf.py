"""The demo recipe of `fgr rlhf` at a size that takes seconds."""

from fgr import recipe as recipes
from fgr.training import directory as runs

SMALL = (
    "data={crop: 16, batch: 2}", "audit={every: 4, images: 3, crop: 16, patch: 32, sheet: 2}", "reward.reference_images=4",
    "training={steps: 8, lr: 1.0e-4, warmup: 2, ema: 0.9, checkpoint_every: 2}", "curriculum.blend_steps=2",
)  # fmt: skip


def small(*overrides: str):
    """The demo recipe at a size that takes seconds."""
    return recipes.load("demo", "rlhf", [*SMALL, *overrides])


def logged(out, split):
    """The lines of a run's metrics.jsonl that are of this split."""
    return [line for line in runs.metrics(out) if line["split"] == split]
