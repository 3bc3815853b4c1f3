"""Diffusion-DPO on pairs of outputs for one input: the dataset's, people's, or ranked by the reward.

Wallace et al. (arXiv 2311.12908); ranked samples as in DP2O-SR (arXiv 2510.18851).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional

from fgr.recipe.algorithms import DpoSettings
from fgr.rlhf.algorithms.interface import Figures, Gather, TrainingStep
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.trained_reward import Reward
from fgr.sr.diffusion.stepwise import Start

Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]  # inputs, winners, losers, weights (B,)


class Dpo:
    """Every pair sees the same noise at the same time step on both sides, under the policy and under the start.

    Errors are taken without classifier-free guidance, as the network was trained: a guided output predicts no noise.
    `autocast` is entered around the network alone; `gather` joins a tensor of every process: pairs are weighed over all of them.
    """

    def __init__(
        self, policy: DiffusionPolicy, rewards: list[Reward], settings: DpoSettings, seed: int = 0,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext, gather: Gather = lambda values: values,
    ) -> None:  # fmt: skip
        self.policy, self.rewards, self.settings, self.seed, self.autocast = policy, rewards, settings, seed, autocast
        self.gather = gather

    def anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        """1: only the reward's value is used, not its gradient."""
        return 1.0

    def step(self, batch: Batch, at: TrainingStep) -> Figures:
        """See `Algorithm`."""
        low, winners, losers, weight = PAIRS[self.settings.pairs](self, batch, at.stage)
        with self.policy.unguided():
            figures = self._learned(low, winners, losers, weight, batch, at)
        with torch.no_grad():
            value = self.rewards[at.stage].value(winners)
        return {"reward": float(value.mean())} | figures

    def _learned(
        self, low: torch.Tensor, winners: torch.Tensor, losers: torch.Tensor, weight: torch.Tensor, batch: Batch, at: TrainingStep
    ) -> Figures:
        """Put the gradients of pairs into the learning tensors; figures for the log."""
        policy = self.policy
        start = policy.begin(low, policy.sources(low, self.seed + 1 + batch.number))
        source = torch.Generator().manual_seed((self.seed + 11) * 1_000_003 + batch.number)
        times = len(policy.schedule.cumulative)
        time = batch.drawn(lambda size: torch.randint(times, size, generator=source), (len(low),)).to(low.device)
        clean = [policy.latents(images) for images in (winners, losers)]
        noise = batch.drawn(lambda size: torch.randn(size, generator=source), clean[0].shape).to(low.device)
        with torch.no_grad(), policy.untuned():
            before = [self._error(latents, noise, time, start) for latents in clean]
        now = [self._error(latents, noise, time, start) for latents in clean]
        loss, margin = dpo_loss(now[0], now[1], before[0], before[1], self.settings.beta, weight)
        at.backward(loss)
        return {
            "dpo_loss": float(loss.detach()), "margin": float(margin.mean()),
            "accuracy": float((margin > 0).float().mean()), "error": float(now[0].detach().mean()),
        }  # fmt: skip

    def _error(self, clean: torch.Tensor, noise: torch.Tensor, time: torch.Tensor, start: Start) -> torch.Tensor:
        policy = self.policy
        with self.autocast():
            output = policy.predict_at(policy.schedule.noised(clean, noise, time), time, start)
        return errors(output, policy.schedule.target(clean, noise, time))

    def _given(self, batch: Batch, stage: int) -> Pairs:
        assert batch.reference is not None
        assert batch.rival is not None
        return batch.low, batch.reference, batch.rival, torch.ones(len(batch.low), device=batch.low.device)

    @torch.no_grad()
    def _ranked(self, batch: Batch, stage: int) -> Pairs:
        """Samples of the policy, the best against the worst by the reward (DP2O-SR's way)."""
        count, policy = self.settings.samples, self.policy
        drawn = [
            policy.sample(batch.low, policy.sources(batch.low, self.seed + 1 + batch.number * 4096 + number))
            for number in range(count)
        ]
        rewards = torch.stack([self.rewards[stage].value(images) for images in drawn], 1)
        winners, losers, weight = ranked_pairs(rewards, self.settings.top, self.gather)
        images, rows = torch.stack(drawn, 1), torch.arange(len(batch.low), device=batch.low.device)
        picked = [images[rows[:, None], chosen].flatten(0, 1) for chosen in (winners, losers)]
        return batch.low.repeat_interleave(winners.shape[1], 0), picked[0], picked[1], weight.flatten()


PAIRS: dict[str, Callable[..., Pairs]] = {"triplets": Dpo._given, "preferences": Dpo._given, "samples": Dpo._ranked}


def errors(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Denoising errors (B,): mean squares over all values of an image."""
    return (output.float() - target.float()).square().flatten(1).mean(1)


def dpo_loss(
    winner: torch.Tensor, loser: torch.Tensor, winner_reference: torch.Tensor, loser_reference: torch.Tensor, beta: float,
    weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """−log σ(−½β[(e_w − e_l) − (e_w,ref − e_l,ref)]) of denoising errors (B,), mean after `weight`, whose own mean is 1; and the
    margins (B,).

    At equality with the reference it is log 2. The margin is positive where the policy prefers the winner more than the
    reference does.
    """
    margin = -0.5 * beta * ((winner - loser) - (winner_reference - loser_reference))
    loss = -functional.logsigmoid(margin)
    return (loss if weight is None else loss * weight).mean(), margin.detach()


def ranked_pairs(
    rewards: torch.Tensor, top: int, gather: Gather = lambda values: values
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best `top` of each group of rewards (groups, N) against the worst `top`: indices of winners and losers (groups, top²),
    and weights (groups, top²) that grow with the gap and with the group's spread, of mean 1 over all that `gather` joins
    (DP2O-SR, arXiv 2510.18851).

    ValueError unless 2·top ≤ N.
    """
    count = rewards.shape[1]
    if not 1 <= top <= count // 2:
        raise ValueError(f"the best {top} and the worst {top} of {count} overlap")
    order = rewards.argsort(1, descending=True)
    winners = order[:, :top].repeat_interleave(top, 1)
    losers = order[:, -top:].repeat(1, top)
    gap = rewards.gather(1, winners) - rewards.gather(1, losers)
    weight = gap.abs() * rewards.std(1, keepdim=True, correction=0)
    return winners, losers, weight / gather(weight).mean().clamp_min(1e-12)
