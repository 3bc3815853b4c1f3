"""GRPO for diffusion policies: samples by stochastic steps, advantages within a group, clipped ratios, KL to the start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fgr.rlhf import policy_gradient, sampling
from fgr.rlhf.climb import Backward, Figures, Update
from fgr.rlhf.denoisers import Begun
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.reward import Reward

Maps = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Knobs:
    """See the recipe's `algorithm`."""

    seed: int = 0
    group: int = 8
    eta: float = 1.0
    updates: int = 1
    clip: float = 1e-4
    advantage_clip: float = 5.0
    spread: policy_gradient.Spread = "global"
    beta: float = 0.04
    window: int = 0
    window_every: int = 25
    shared_noise: bool = True
    dense: bool = False


@dataclass(frozen=True)
class Rollout:
    """A batch of groups: what was passed through in the learned steps, how likely it was, and how it was rewarded."""

    begun: Begun
    before: dict[int, torch.Tensor]  # step → latents (B·G, C, h, w) that it began from
    after: dict[int, torch.Tensor]
    log_prob: dict[int, torch.Tensor]  # (B·G, h, w)
    share: dict[int, float]  # each step's weight in the loss, 1 in the mean: its deviation over the mean deviation
    images: torch.Tensor
    advantage: torch.Tensor  # (B·G,), or (B·G, h, w)


class Grpo:
    """`maps` gives a stage's degradation map of images, or None; for rewards a place."""

    def __init__(
        self,
        policy: DiffusionPolicy,
        rewards: list[Reward],
        knobs: Knobs,
        maps: Callable[[int], Maps | None] = lambda stage: None,
    ) -> None:
        self.policy, self.rewards, self.knobs, self.maps = policy, rewards, knobs, maps

    def held(self, batch: Batch, start: torch.Tensor) -> float:
        """1: only the reward's value is used, not its gradient."""
        return 1.0

    def step(self, network: Any, batch: Batch, stage: int, share: float, backward: Backward, update: Update) -> Figures:
        """See `climb.Algorithm`."""
        rollout, figures = self.rollout(batch, stage, share)
        steps = sorted(rollout.before)
        sums = {"policy_loss": 0.0, "kl": 0.0, "ratio": 0.0, "clip_fraction": 0.0}
        for turn in range(self.knobs.updates):
            for index in steps:
                loss, found = self.loss(rollout, index)
                backward(loss / len(steps))
                sums = {name: value + found[name] / (len(steps) * self.knobs.updates) for name, value in sums.items()}
            if turn < self.knobs.updates - 1:
                update()
        return figures | sums

    @torch.no_grad()
    def rollout(self, batch: Batch, stage: int, share: float) -> tuple[Rollout, Figures]:
        """Sample a group for each input and reward it."""
        knobs, policy = self.knobs, self.policy
        low = batch.low.repeat_interleave(knobs.group, 0)
        begun = policy.begin(low, self._sources(batch))
        learned = policy_gradient.window(batch.number, policy.steps, knobs.window, knobs.window_every)
        latents, before, after, likely, sd = begun.latents, {}, {}, {}, {}
        source = torch.Generator().manual_seed((knobs.seed + 7) * 1_000_003 + batch.number)
        for index in range(policy.steps):
            step = policy.step(latents, index, begun, knobs.eta if index in learned else 0.0)
            noise = torch.randn(latents.shape, generator=source).to(latents.device) if index in learned else None
            drawn = step.drawn(noise)
            if index in learned:
                before[index], after[index], likely[index], sd[index] = latents, drawn, sampling.log_prob(drawn, step), step.sd
            latents = drawn
        images = policy.image(latents, low, begun)
        value = self._value(images, stage, share)
        rewards, maps = value, self.maps(stage) if knobs.dense else None
        if maps is not None:
            rewards = policy_gradient.dense_rewards(value, maps(images), tuple(latents.shape[-2:]))  # type: ignore[arg-type]
        grouped = rewards.view(len(batch.low), knobs.group, *rewards.shape[1:])
        advantage = policy_gradient.advantages(grouped, knobs.spread, knobs.advantage_clip).flatten(0, 1)
        figures = {"reward": float(value.mean()), "reward_std": float(value.view(len(batch.low), -1).std(1, correction=0).mean())}
        shares = {index: value * len(sd) / sum(sd.values()) for index, value in sd.items()}
        return Rollout(begun, before, after, likely, shares, images, advantage), figures

    def loss(self, rollout: Rollout, index: int) -> tuple[torch.Tensor, Figures]:
        """The clipped loss and the KL penalty of a denoising step.

        Their gradients grow as 1 / deviation towards the last steps, which would drown the others: each is weighed by its
        deviation (ours; GRPO-Guard balances steps to the same end).
        """
        knobs, policy, latents = self.knobs, self.policy, rollout.before[index]
        with torch.no_grad(), policy.untuned():
            reference = policy.step(latents, index, rollout.begun, knobs.eta)
        step = policy.step(latents, index, rollout.begun, knobs.eta)
        now, old, advantage = sampling.log_prob(rollout.after[index], step), rollout.log_prob[index], rollout.advantage
        if advantage.ndim == 1:
            now, old = now.mean((1, 2)), old.mean((1, 2))
        loss = policy_gradient.clipped(now, old, advantage, knobs.clip)
        kl = sampling.divergence(step, reference).mean()
        ratio = (now - old).exp().detach()
        outside = float(((ratio - 1).abs() > knobs.clip).float().mean())
        figures = {"policy_loss": float(loss.detach()), "kl": float(kl.detach()), "ratio": float(ratio.mean())}
        return rollout.share[index] * (loss + knobs.beta * kl), figures | {"clip_fraction": outside}

    def _value(self, images: torch.Tensor, stage: int, share: float) -> torch.Tensor:
        value = self.rewards[stage].value(images)
        return value if share >= 1 else (1 - share) * self.rewards[stage - 1].value(images) + share * value

    def _sources(self, batch: Batch) -> list[torch.Generator]:
        """A generator a sample: members of a group begin from the same noise, or each from its own."""
        members: Sequence[int] = [0] * self.knobs.group if self.knobs.shared_noise else range(self.knobs.group)
        drawn = [self.policy.sources(batch.low, self.knobs.seed + 1 + batch.number * 4096 + member) for member in members]
        return [drawn[member][row] for row in range(len(batch.low)) for member in range(self.knobs.group)]
