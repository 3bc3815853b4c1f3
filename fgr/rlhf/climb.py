"""The reward's gradient at a policy's output; and one step up it by plain back-propagation, for deterministic networks."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

from fgr.errors import UserError
from fgr.rlhf import objective
from fgr.rlhf.inputs import Batch
from fgr.rlhf.objective import Anchor, Distance
from fgr.rlhf.policy import Policy
from fgr.rlhf.reward import Reward

PROBE = 2 / 255  # displacement at which the anchor's gradient is taken: at the start itself it is 0
Backward = Callable[[torch.Tensor], None]
Update = Callable[[], Any]
Figures = dict[str, float]


class Algorithm(Protocol):
    """How a policy climbs; `rewards` go by stage."""

    rewards: list[Reward]

    def step(self, network: Any, batch: Batch, stage: int, share: float, backward: Backward, update: Update) -> Figures:
        """Put a step's gradients into the learning tensors by `backward(loss)`; figures for the log.

        `network` is the policy as it may be wrapped, `share` how far `stage` has faded in; `update` takes an optimiser step
        before the one that follows anyway.
        """

    def held(self, batch: Batch, start: torch.Tensor) -> float:
        """The norm at the output that the reward's gradient is measured against; `start` is the untuned output."""


class Climb:
    """`direct`: the gradient goes down through the network. `autocast` is entered around the policy alone."""

    def __init__(
        self, policy: Policy, rewards: list[Reward], anchor: Anchor, perceptual: Distance | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.policy, self.rewards, self.anchor, self.perceptual, self.autocast = policy, rewards, anchor, perceptual, autocast

    def step(self, network: Any, batch: Batch, stage: int, share: float, backward: Backward, update: Update) -> Figures:
        """See `Algorithm`."""
        start = self.policy.start(batch.low)  # first: switching adapters off and on must not fall between forward and backward
        with self.autocast():
            output = network(batch.low)
        output = output.float()
        gradient, figures = reward_gradient(self.rewards, output, stage, share)
        anchors = objective.anchor_terms(self.anchor, output, batch.low, start, batch.reference, self._distance)
        backward(objective.surrogate(output, gradient) + objective.total(anchors))
        return figures | {f"anchor_{name}": float(term.detach()) for name, term in anchors.items()}

    def held(self, batch: Batch, start: torch.Tensor) -> float:
        """The anchor's gradient a little away from the start."""
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).to(start.device)
        leaf = (start + PROBE * noise).detach().requires_grad_()
        terms = objective.anchor_terms(self.anchor, leaf, batch.low, start, batch.reference, self._distance)
        return objective.norm(torch.autograd.grad(objective.total(terms), leaf)[0])

    def _distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert self.perceptual is not None
        return self.perceptual(a, b).mean()


def reward_gradient(
    rewards: Sequence[Reward], output: torch.Tensor, stage: int, share: float, hinge: float | None = None
) -> tuple[torch.Tensor, Figures]:
    """The weighted reward's gradient at `output` (B, 3, H, W), the stage before faded out by `share`; and figures.

    Images whose reward has reached `hinge` (z-units) pull no further.
    """
    reward = rewards[stage]
    terms, value, gradient = reward.gradient(output)
    gradient = reward.weight * gradient
    if share < 1:
        before = rewards[stage - 1]
        gradient = objective.faded(before.weight * before.gradient(output)[2], gradient, share)
    if hinge is not None:
        gradient = gradient * (value < hinge).view(-1, 1, 1, 1)
    figures = {"reward": float(value.mean()), "reward_std": float(value.std(correction=0))}
    figures |= {name: float(row.mean()) for name, row in zip(reward.terms, terms, strict=True)}
    figures["reward_gradient"] = objective.norm(gradient)
    figures["at_bound"] = float((value.abs() > reward.bound).float().mean()) if reward.bound else 0.0
    return gradient, figures


def set_units(
    reward: Reward, references: Sequence[torch.Tensor], starts: Sequence[torch.Tensor], held: float, ratio: float,
    standardise: bool = True,
) -> None:  # fmt: skip
    """Set a reward's z-units, unless its terms stay as they are, and its weight, once.

    `references` are images (B, 3, H, W), clean ones and composites; `starts` the untuned network's outputs. The weight makes the
    reward's gradient `ratio` times `held`. UserError for a reward that does not vary or has no gradient.
    """
    if standardise:
        reward.calibrate([*references, *starts])
    pull = objective.norm(reward.gradient(starts[0])[2])
    try:
        reward.weight = objective.reward_weight(pull, held, ratio)
    except ValueError as error:
        raise UserError(
            f"The reward {reward.name} cannot be climbed: {error}.",
            "Judge the reward model with `fgr evaluate`; a map or score that is saturated everywhere has no gradient.",
        ) from None
