"""A training step beside its loss: learning rate, accumulation, clipping, divergence guard, EMA."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fgr.progress import remark

Weights = dict[str, torch.Tensor]
STEADY = 20  # steps after which the running mean can tell that a value has exploded


class Optimization:
    """Steps of `optimizer` on `model`: gradients accumulated over `accumulate` batches, then clipped to the norm `clip`.

    `model` and `optimizer` are as `accelerator.prepare` returned them. Without an accelerator the step is this process's alone,
    in the precision of the weights. `parameters` are those to clip, all of the model's by default.
    """

    def __init__(
        self, model: Any, optimizer: Any, clip: float, accumulate: int = 1, accelerator: Any = None,
        parameters: Iterable[torch.Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.clip, self.batches, self.accelerator = model, optimizer, clip, accumulate, accelerator
        self.parameters = list(model.parameters() if parameters is None else parameters)
        self.highest = [group["lr"] for group in optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Set every group's learning rate to `factor` times the one that it was made with."""
        for group, highest in zip(self.optimizer.param_groups, self.highest, strict=True):
            group["lr"] = factor * highest

    def accumulate(self, source: Iterator[Any], forward: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
        """Means of the figures that `forward` gives for the next batches; it is to call `backward` on its loss.

        Processes exchange their gradients in the last batch alone.
        """
        figures: dict[str, Any] = {}
        for number in range(self.batches):
            if self.batches > 1:
                remark(f"batch {number + 1} of {self.batches}")
            batch = next(source)
            with self._exchange(number == self.batches - 1):
                of_batch = forward(batch)
            for name, value in of_batch.items():
                figures[name] = figures.get(name, 0.0) + value / self.batches
        return figures

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a batch's loss, as its share of the step."""
        loss = loss / self.batches
        self.accelerator.backward(loss) if self.accelerator else loss.backward()

    def clip_gradients(self) -> float:
        """Clip the gradients; their norm before that."""
        clip = self.accelerator.clip_grad_norm_ if self.accelerator else torch.nn.utils.clip_grad_norm_
        return float(clip(self.parameters, self.clip))

    def step(self) -> None:
        """Take the step, and begin the next one's gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def skip(self) -> None:
        """Drop the gradients and leave the weights alone; in fp16 the loss scale is lowered."""
        self.optimizer.zero_grad()
        if self.accelerator and self.accelerator.scaler:
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the optimizer's state and, in fp16, the loss scale's."""
        scaler = self.accelerator.scaler if self.accelerator else None
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler.state_dict() if scaler else None}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Go on from `state`; checkpoints of earlier versions know nothing of the loss scale."""
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved.get("scaler") and self.accelerator and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def _exchange(self, last: bool) -> Any:
        if not self.accelerator:
            return nullcontext()
        return self.accelerator.accumulate() if last else self.accelerator.no_sync(self.model)


def warmup(step: int, steps: int) -> float:
    """The factor of the learning rate in step `step` (from 0) of a linear warm-up over `steps`; 1 afterwards."""
    return min(1.0, (step + 1) / max(1, steps))


def warmup_cosine(step: int, steps: int, share: float) -> float:
    """The factor of the learning rate in step `step` (from 0): a linear warm-up over a `share` of `steps`, then a cosine to 0."""
    rising = max(1, round(share * steps))
    if step < rising:
        return warmup(step, rising)
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def divergence(value: float, mean: float, limit: float, step: int) -> str:
    """How a loss or a gradient's norm went wrong in step `step` (from 1), or "": not a number, or `limit` times its mean."""
    if not math.isfinite(value):
        return "is not a number"
    return "exploded" if step > STEADY and value > limit * max(mean, 1e-12) else ""


def running_mean(mean: float, value: float) -> float:
    """The exponential running mean with another value; 0 is none yet."""
    return 0.95 * mean + 0.05 * value if mean else value


@torch.no_grad()
def update_ema(average: Weights, current: Mapping[str, torch.Tensor], decay: float, step: int) -> None:
    """Move averaged weights towards the `current` ones, in place; what is not floating-point is copied.

    In early steps the decay is lower, (1 + step) / (10 + step) with `step` from 1, so that the start is soon forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    floating = [name for name, value in average.items() if value.is_floating_point()]
    move = get_ema_multi_avg_fn(decay)
    move([average[name] for name in floating], [current[name].detach().to(average[name].dtype) for name in floating], 0)
    for name in average.keys() - set(floating):
        average[name].copy_(current[name])
