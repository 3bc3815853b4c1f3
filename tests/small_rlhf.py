"""The demo recipe of `fgr rlhf` at a size that takes seconds."""

from contextlib import contextmanager

from fgr import recipe as recipes
from fgr.rlhf.run import open_loop
from fgr.rlhf.setup import Setup
from fgr.training import directory as runs

SMALL = (
    "data={crop: 16, batch: 2}",
    "audit={every: 4, images: 3, crop: 16, patch: 32, sheet: 2, metrics: [], at_hand: false, planted: 0, control_features: []}",
    "reward.reference_images=4",
    "training={steps: 8, lr: 1.0e-4, warmup: 2, ema: 0.9, checkpoint_every: 2}",
    "curriculum.blend_steps=2",
)  # fmt: skip


def small(*overrides: str):
    """The demo recipe at a size that takes seconds."""
    return recipes.load("demo", "rlhf", [*SMALL, *overrides])


def logged(out, split):
    """The lines of a run's metrics.jsonl that are of this split."""
    return [line for line in runs.metrics(out) if line["split"] == split]


def opened(recipe, sources, out):
    """The parts of a run and its loop, begun in the folder `out`."""
    setup = Setup(recipe, *sources, out, "cpu")
    setup.run.start("rlhf", recipes.resolved(recipe), setup.facts)
    return setup, open_loop(setup)


@contextmanager
def interrupted_after(monkeypatch, steps):
    """Within the block, Ctrl-C comes when a run has taken this many steps and asks for another batch."""
    batches = Setup.batches

    def until(self, first, last):
        for batch in batches(self, first, last):
            if batch.number == steps:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Setup, "batches", until)
        yield
