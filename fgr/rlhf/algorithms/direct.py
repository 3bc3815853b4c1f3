"""`direct`: the gradients of reward and anchor go back through a deterministic network."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from fgr.recipe.algorithms import DirectSettings
from fgr.recipe.rlhf import Anchor
from fgr.rlhf.algorithms.interface import Figures, TrainingStep
from fgr.rlhf.anchor import Distance, anchor_terms, total
from fgr.rlhf.inputs import Batch
from fgr.rlhf.network_policy import NetworkPolicy
from fgr.rlhf.trained_reward import Reward, gradient_norm, reward_gradient, surrogate

PROBE = 2 / 255  # displacement at which the anchor's gradient is taken: at the start itself it is 0


class Direct:
    """`autocast` is entered around the policy alone; `perceptual`: the distances that the anchor weighs, by name."""

    def __init__(
        self, policy: NetworkPolicy, rewards: list[Reward], anchor: Anchor, perceptual: Mapping[str, Distance] | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, settings: DirectSettings | None = None,
    ) -> None:  # fmt: skip
        self.hinge = settings.hinge if settings else None
        self.policy, self.rewards, self.anchor, self.perceptual, self.autocast = policy, rewards, anchor, perceptual, autocast

    def step(self, batch: Batch, at: TrainingStep) -> Figures:
        """See `Algorithm`."""
        start = self.policy.start(batch.low)  # first: switching adapters off and on must not fall between forward and backward
        with self.autocast():
            output = at.network(batch.low)
        output = output.float()
        gradient, figures = reward_gradient(self.rewards, output, at.stage, at.share, self.hinge, batch.reference)
        terms = anchor_terms(self.anchor, output, batch.low, start, batch.reference, self.perceptual)
        at.backward(surrogate(output, gradient) + total(terms))
        return figures | {f"anchor_{name}": float(term.detach()) for name, term in terms.items()}

    def anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        """The norm of the anchor's gradient a little away from the start."""
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0)).to(start.device)
        leaf = (start + PROBE * noise).detach().requires_grad_()
        terms = anchor_terms(self.anchor, leaf, batch.low, start, batch.reference, self.perceptual)
        return gradient_norm(torch.autograd.grad(total(terms), leaf)[0])
