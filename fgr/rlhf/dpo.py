"""Diffusion-DPO for SR policies: pairs of outputs for one input, from the dataset, from people, or ranked by the reward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fgr.rlhf import preference
from fgr.rlhf.climb import Backward, Figures, Update
from fgr.rlhf.denoisers import Begun
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.reward import Reward

Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # inputs, winners, losers, weights (B,)


@dataclass(frozen=True)
class Knobs:
    """See the recipe's `algorithm`."""

    seed: int = 0
    pairs: str = "triplets"
    beta: float = 2000.0
    samples: int = 8
    top: int = 2


class Dpo:
    """Every pair sees the same noise at the same time step on both sides, under the policy and under the start."""

    def __init__(self, policy: DiffusionPolicy, rewards: list[Reward], knobs: Knobs) -> None:
        self.policy, self.rewards, self.knobs = policy, rewards, knobs
        self._pairs = PAIRS[knobs.pairs]

    def held(self, batch: Batch, start: torch.Tensor) -> float:
        """1: only the reward's value is used, not its gradient."""
        return 1.0

    def step(self, network: Any, batch: Batch, stage: int, share: float, backward: Backward, update: Update) -> Figures:
        """See `climb.Algorithm`."""
        low, winners, losers, weight = self._pairs(self, batch, stage)
        policy, scheduler = self.policy, self.policy.denoiser.scheduler
        begun = policy.begin(low, policy.sources(low, self.knobs.seed + 1 + batch.number))
        source = torch.Generator().manual_seed((self.knobs.seed + 11) * 1_000_003 + batch.number)
        time = torch.randint(scheduler.config.num_train_timesteps, (len(low),), generator=source).to(low.device)
        clean = [policy.latents(images) for images in (winners, losers)]
        noise = torch.randn(clean[0].shape, generator=source).to(low.device)
        with torch.no_grad(), policy.untuned():
            before = [self._error(latents, noise, time, begun) for latents in clean]
        now = [self._error(latents, noise, time, begun) for latents in clean]
        loss, margin = preference.dpo_loss(now[0], now[1], before[0], before[1], self.knobs.beta, weight)
        backward(loss)
        with torch.no_grad():
            value = self.rewards[stage].value(winners)
        return {
            "reward": float(value.mean()), "dpo_loss": float(loss.detach()), "margin": float(margin.mean()),
            "accuracy": float((margin > 0).float().mean()), "error": float(now[0].detach().mean()),
        }  # fmt: skip

    def _error(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor, begun: Begun) -> torch.Tensor:
        scheduler = self.policy.denoiser.scheduler
        noised = scheduler.add_noise(clean, noise, time)
        targets = {
            "epsilon": lambda: noise,
            "sample": lambda: clean,
            "v_prediction": lambda: scheduler.get_velocity(clean, noise, time),
        }
        return preference.errors(
            self.policy.denoiser.predict(noised, time, begun.condition), targets[scheduler.config.prediction_type]()
        )

    def _given(self, batch: Batch, stage: int) -> Pairs:
        assert batch.reference is not None
        assert batch.rival is not None
        return batch.low, batch.reference, batch.rival, torch.ones(len(batch.low), device=batch.low.device)

    @torch.no_grad()
    def _ranked(self, batch: Batch, stage: int) -> Pairs:
        """Samples of the policy, the best against the worst by the reward (DP2O-SR's way)."""
        count, policy = self.knobs.samples, self.policy
        drawn = [
            policy.sample(batch.low, policy.sources(batch.low, self.knobs.seed + 1 + batch.number * 4096 + number))
            for number in range(count)
        ]
        rewards = torch.stack([self.rewards[stage].value(images) for images in drawn], 1)
        winners, losers, weight = preference.ranked_pairs(rewards, self.knobs.top)
        images, rows = torch.stack(drawn, 1), torch.arange(len(batch.low), device=batch.low.device)
        picked = [images[rows[:, None], chosen].flatten(0, 1) for chosen in (winners, losers)]
        return batch.low.repeat_interleave(winners.shape[1], 0), picked[0], picked[1], weight.flatten()


PAIRS: dict[str, Callable[..., Pairs]] = {"triplets": Dpo._given, "preferences": Dpo._given, "samples": Dpo._ranked}
