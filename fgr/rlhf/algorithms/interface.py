"""What the tuning loop asks of an algorithm, and what it gives it for a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fgr.rlhf.inputs import Batch
from fgr.rlhf.trained_reward import Reward

Figures = dict[str, float]  # for the log, by name
Gather = Callable[[torch.Tensor], torch.Tensor]  # the values of a tensor in every process, joined


@dataclass(frozen=True)
class TrainingStep:
    """Where the run is, and how gradients get into the policy.

    `share` is how far the stage has faded in, 0 … 1. `backward(loss)` adds a loss's gradients; `update()` takes an optimizer step
    before the one that ends the training step anyway.
    """

    network: Any  # the policy
    stage: int
    share: float
    backward: Callable[[torch.Tensor], None]
    update: Callable[[], Any]


class Algorithm(Protocol):
    """How a policy is updated; `rewards` are by stage."""

    rewards: list[Reward]

    def step(self, batch: Batch, at: TrainingStep) -> Figures:
        """Put a step's gradients into the learning tensors; figures for the log."""

    def anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        """The norm at the output that the reward's gradient is measured against; `start` is the untuned output."""
