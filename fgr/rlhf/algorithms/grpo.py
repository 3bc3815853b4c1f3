"""GRPO: groups of stochastic samples, advantages within a group, clipped ratios, KL penalty.

Flow-GRPO (arXiv 2505.05470) and DanceGRPO (2505.07818) for scalar rewards, DenseFlow-GRPO (in 2510.01010) for a reward a place,
MixGRPO (2507.21802) for the window.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fgr.recipe.algorithms import GrpoSettings
from fgr.rlhf.algorithms.interface import Figures, Gather, TrainingStep
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.reward_stages import Maps
from fgr.rlhf.trained_reward import Reward
from fgr.sr.diffusion.stepwise import Start

SMALLEST_SD = 1e-4


@dataclass(frozen=True)
class Rollout:
    """A batch of groups: what was passed through in the learned steps, how likely it was, and how it was rewarded."""

    start: Start
    before: dict[int, torch.Tensor]  # step → latents (B·G, C, h, w) that it began from
    after: dict[int, torch.Tensor]
    log_prob: dict[int, torch.Tensor]  # (B·G, h, w)
    share: dict[int, float]  # each step's weight in the loss, 1 in the mean: its deviation over the mean deviation
    images: torch.Tensor
    advantage: torch.Tensor  # (B·G,), or (B·G, h, w)


class Grpo:
    """`maps` gives a stage's degradation map of images, or None; for rewards a place. `autocast` is entered around the network
    alone; `gather` joins a tensor of every process: the global deviation is that of all of them."""

    def __init__(
        self,
        policy: DiffusionPolicy,
        rewards: list[Reward],
        settings: GrpoSettings,
        seed: int = 0,
        maps: Callable[[int], Maps | None] = lambda stage: None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        gather: Gather = lambda values: values,
    ) -> None:
        self.autocast, self.gather = autocast, gather
        self.policy, self.rewards, self.settings, self.seed, self.maps = policy, rewards, settings, seed, maps

    def anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        """1: only the reward's value is used, not its gradient."""
        return 1.0

    def step(self, batch: Batch, at: TrainingStep) -> Figures:
        """See `Algorithm`."""
        rollout, figures = self.rollout(batch, at.stage, at.share)
        steps = sorted(rollout.before)
        sums = {"policy_loss": 0.0, "kl": 0.0, "ratio": 0.0, "clip_fraction": 0.0}
        for turn in range(self.settings.updates):
            for index in steps:
                loss, found = self.loss(rollout, index)
                at.backward(loss / len(steps))
                sums = {name: value + found[name] / (len(steps) * self.settings.updates) for name, value in sums.items()}
            if turn < self.settings.updates - 1:
                at.update()
        return figures | sums

    @torch.no_grad()
    def rollout(self, batch: Batch, stage: int, share: float) -> tuple[Rollout, Figures]:
        """Sample a group for each input and reward it."""
        settings, policy = self.settings, self.policy
        low = batch.low.repeat_interleave(settings.group, 0)
        start = policy.begin(low, self._sources(batch))
        learned = window(batch.number, policy.steps, settings.window, settings.window_every)
        latents, before, after, likely, sd = start.latents, {}, {}, {}, {}
        source = torch.Generator().manual_seed((self.seed + 7) * 1_000_003 + batch.number)
        for index in range(policy.steps):
            with self.autocast():
                step = policy.step(latents, index, start, settings.eta if index in learned else 0.0)
            noise = None
            if index in learned:
                noise = batch.drawn(lambda size: torch.randn(size, generator=source), latents.shape).to(latents.device)
            drawn = step.drawn(noise)
            if index in learned:
                before[index], after[index], likely[index], sd[index] = latents, drawn, step.log_prob(drawn), step.sd
            latents = drawn
        images = policy.image(latents, low, start)
        value = self._value(images, stage, share)
        rewards, maps = value, self.maps(stage) if settings.dense else None
        if maps is not None:
            rewards = dense_rewards(value, maps(images), tuple(latents.shape[-2:]), self.gather)  # type: ignore[arg-type]
        grouped = rewards.view(len(batch.low), settings.group, *rewards.shape[1:])
        everywhere = self.gather(rewards) if settings.spread == "global" else None
        advantage = advantages(grouped, settings.spread, settings.advantage_clip, everywhere).flatten(0, 1)
        figures = {"reward": float(value.mean()), "reward_std": float(value.view(len(batch.low), -1).std(1, correction=0).mean())}
        shares = {index: value * len(sd) / sum(sd.values()) for index, value in sd.items()}
        return Rollout(start, before, after, likely, shares, images, advantage), figures

    def loss(self, rollout: Rollout, index: int) -> tuple[torch.Tensor, Figures]:
        """The clipped loss and the KL penalty of a denoising step.

        Their gradients grow as 1 / deviation towards the last steps, which would drown the others: each is weighed by its
        deviation (ours; GRPO-Guard balances steps to the same end).
        """
        settings, policy, latents = self.settings, self.policy, rollout.before[index]
        with torch.no_grad(), policy.untuned(), self.autocast():
            reference = policy.step(latents, index, rollout.start, settings.eta)
        with self.autocast():
            step = policy.step(latents, index, rollout.start, settings.eta)
        now, old, advantage = step.log_prob(rollout.after[index]), rollout.log_prob[index], rollout.advantage
        if advantage.ndim == 1:
            now, old = now.mean((1, 2)), old.mean((1, 2))
        loss = clipped(now, old, advantage, settings.clip)
        kl = step.divergence(reference).mean()
        ratio = (now - old).exp().detach()
        outside = float(((ratio - 1).abs() > settings.clip).float().mean())
        figures = {"policy_loss": float(loss.detach()), "kl": float(kl.detach()), "ratio": float(ratio.mean())}
        return rollout.share[index] * (loss + settings.beta * kl), figures | {"clip_fraction": outside}

    def _value(self, images: torch.Tensor, stage: int, share: float) -> torch.Tensor:
        value = self.rewards[stage].value(images)
        return value if share >= 1 else (1 - share) * self.rewards[stage - 1].value(images) + share * value

    def _sources(self, batch: Batch) -> list[torch.Generator]:
        """A generator a sample: members of a group begin from the same noise, or each from its own."""
        members: Sequence[int] = [0] * self.settings.group if self.settings.shared_noise else range(self.settings.group)
        drawn = [self.policy.sources(batch.low, self.seed + 1 + batch.number * 4096 + member) for member in members]
        return [drawn[member][row] for row in range(len(batch.low)) for member in range(self.settings.group)]


def advantages(rewards: torch.Tensor, spread: str, clip: float, everywhere: torch.Tensor | None = None) -> torch.Tensor:
    """Rewards (groups, G, …) less their group's mean, over a deviation, within ±clip.

    `group` divides by each group's own deviation, which blows up where all members are alike; `global` by that of the whole
    batch, `everywhere` in all processes; `none` by nothing. ValueError for groups of one: their advantage is always 0.
    """
    if rewards.ndim < 2 or rewards.shape[1] < 2:
        raise ValueError(f"groups need at least two members, got {tuple(rewards.shape)}")
    centred = rewards - rewards.mean(1, keepdim=True)
    if spread == "group":
        centred = centred / rewards.std(1, keepdim=True, correction=0).clamp_min(SMALLEST_SD)
    elif spread == "global":
        centred = centred / (rewards if everywhere is None else everywhere).std(correction=0).clamp_min(SMALLEST_SD)
    return centred.clamp(-clip, clip)


def clipped(log_prob: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's loss, mean of −min(ρA, clip(ρ, 1 ± clip)·A), ρ = exp(log_prob − old); all of one shape."""
    ratio = (log_prob - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def dense_rewards(
    rewards: torch.Tensor, maps: torch.Tensor, size: tuple[int, int], gather: Gather = lambda values: values
) -> torch.Tensor:
    """A reward a place, (B, h, w): each image's reward (B,), less where its degradation map (B, 1, H, W) is high.

    R(h, w) = R − M(h, w) with R in z-units and M brought to unit deviation over the batch of all processes. (The published
    R·(1 − M) turns a low reward's sign around: for negative R a bad place gains. The sum is ours.)
    """
    resized = torch.nn.functional.adaptive_avg_pool2d(maps.float(), size).squeeze(1)
    everywhere = gather(resized)
    scaled = (resized - everywhere.mean()) / everywhere.std(correction=0).clamp_min(SMALLEST_SD)
    return rewards.view(-1, 1, 1) - scaled


def window(step: int, steps: int, size: int, every: int) -> range:
    """Which of the denoising steps are stochastic and learned in training step `step` (MixGRPO, arXiv 2507.21802).

    `size` steps from a place that moves on by one every `every` training steps and begins anew at the end; 0 = all. The last
    denoising step, whose variance is 0, never is.
    """
    last = steps - 1
    if not size or size >= last:
        return range(last)
    places = last - size + 1
    start = step // every % places
    return range(start, start + size)
