"""One step up the reward: the reward's gradient at the policy's output, held by the anchor, down through the network."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fgr.errors import UserError
from fgr.rlhf import objective
from fgr.rlhf.inputs import Batch
from fgr.rlhf.objective import Anchor, Distance
from fgr.rlhf.policy import Policy
from fgr.rlhf.reward import Reward

PROBE = 2 / 255  # displacement at which the anchor's gradient is taken: at the start itself it is 0


@dataclass(frozen=True)
class Ascent:
    """A batch's loss, and figures for the log."""

    loss: torch.Tensor
    figures: dict[str, float]


class Climb:
    """`rewards` by stage; `autocast` is entered around the policy alone: rewards and anchors are computed in float32."""

    def __init__(
        self, policy: Policy, rewards: Sequence[Reward], anchor: Anchor, perceptual: Distance | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.policy, self.rewards, self.anchor, self.perceptual, self.autocast = policy, rewards, anchor, perceptual, autocast

    def __call__(self, network: Any, batch: Batch, stage: int, share: float = 1.0) -> Ascent:
        """The loss of `network` (the policy, as it may be wrapped) on a batch under stage `stage`, `share` of it faded in."""
        start = self.policy.start(batch.low)  # first: switching adapters off and on must not fall between forward and backward
        with self.autocast():
            output = network(batch.low)
        output = output.float()
        reward = self.rewards[stage]
        terms, value, gradient = reward.gradient(output)
        gradient = reward.weight * gradient
        if share < 1:
            before = self.rewards[stage - 1]
            gradient = objective.faded(before.weight * before.gradient(output)[2], gradient, share)
        anchors = objective.anchor_terms(self.anchor, output, batch.low, start, batch.reference, self._distance)
        held = objective.total(anchors)
        figures = {"reward": float(value.mean()), "reward_std": float(value.std(correction=0))}
        figures |= {name: float(row.mean()) for name, row in zip(reward.terms, terms, strict=True)}
        figures |= {f"anchor_{name}": float(term.detach()) for name, term in anchors.items()}
        figures["reward_gradient"] = objective.norm(gradient)
        figures["at_bound"] = float((value.abs() > reward.bound).float().mean()) if reward.bound else 0.0
        return Ascent(objective.surrogate(output, gradient) + held, figures)

    def calibrate(self, references: Iterable[torch.Tensor], batches: Sequence[Batch], ratio: float) -> None:
        """Set every reward's z-units and weight, once.

        `references` are images (B, 3, H, W): clean ones, composites; the untuned network's outputs of `batches` are added.
        UserError for a reward that does not vary or has no gradient.
        """
        references = list(references)
        for stage in range(len(self.rewards)):
            self.calibrate_one(stage, references, batches, ratio)

    def calibrate_one(self, stage: int, references: Sequence[torch.Tensor], batches: Sequence[Batch], ratio: float) -> None:
        """As `calibrate`, for the reward of one stage."""
        starts = [self.policy.start(batch.low) for batch in batches]
        reward = self.rewards[stage]
        reward.calibrate([*references, *starts])
        pull = objective.norm(reward.gradient(starts[0])[2])
        try:
            reward.weight = objective.reward_weight(pull, self._anchor_norm(batches[0], starts[0]), ratio)
        except ValueError as error:
            raise UserError(
                f"The reward {reward.name} cannot be climbed: {error}.",
                "Judge the reward model with `fgr evaluate`; a map or score that is saturated everywhere has no gradient.",
            ) from None

    def _anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).to(start.device)
        leaf = (start + PROBE * noise).detach().requires_grad_()
        terms = objective.anchor_terms(self.anchor, leaf, batch.low, start, batch.reference, self._distance)
        return objective.norm(torch.autograd.grad(objective.total(terms), leaf)[0])

    def _distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert self.perceptual is not None
        return self.perceptual(a, b).mean()
