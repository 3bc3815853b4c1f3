"""ReFL and DRaFT: the reward's gradient goes back through one late denoising step, or the last few.

ReFL (ImageReward, arXiv 2304.05977), DRaFT-K and DRaFT-LV (arXiv 2309.17400). The published code of ReFL hands the UNet the
place of a step in the schedule for its time; here it is the time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fgr.recipe.algorithms import DraftLvSettings, DraftSettings, PathwiseSettings, ReflSettings
from fgr.rlhf.algorithms.interface import Figures, TrainingStep
from fgr.rlhf.anchor import low_frequency
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.trained_reward import Reward, reward_gradient, surrogate
from fgr.sr.diffusion.stepwise import Start


class Pathwise:
    """One of ROUTES: where in sampling the gradient is taken. `seed` is that of the noises and steps that are drawn."""

    def __init__(
        self, policy: DiffusionPolicy, rewards: list[Reward], settings: PathwiseSettings, seed: int = 0,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.policy, self.rewards, self.settings, self.seed, self.autocast = policy, rewards, settings, seed, autocast

    def anchor_norm(self, batch: Batch, start: torch.Tensor) -> float:
        """1: the reward's gradient at the output has the norm `reward.ratio` by itself."""
        return 1.0

    def step(self, batch: Batch, at: TrainingStep) -> Figures:
        """See `Algorithm`."""
        return ROUTES[self.settings.name](self, self.settings, batch, at)

    def _refl(self, settings: ReflSettings, batch: Batch, at: TrainingStep) -> Figures:
        policy, rng = self.policy, np.random.default_rng([self.seed, batch.number])
        chosen, early = drawn_steps(rng, policy.steps, settings.late, settings.early)
        if not settings.low_frequency:
            early = -1
        start = self._begun(batch)
        latents, kept = self._rolled(start, 0, chosen, start.latents, early)
        output, gap = self._predicted(latents, chosen, start)
        step = policy.transition(latents, output, chosen)
        image = self._decoded(step.clean, batch, start)
        seen = image.detach()
        if settings.endpoint:  # the reward of the real sample, its gradient led to this step's prediction
            end, _ = self._rolled(start, chosen + 1, policy.steps, step.mean.detach(), -1)
            with torch.no_grad():
                seen = self._decoded(end, batch, start)
        gradient, figures = reward_gradient(self.rewards, seen, at.stage, at.share, settings.hinge, batch.reference)
        loss = surrogate(image, gradient) + gap
        if kept is not None and batch.reference is not None:
            guess = policy.transition(kept, self._predicted(kept, early, start)[0], early).clean
            kept_low = low_frequency(self._decoded(guess, batch, start), 8)
            term = settings.low_frequency * (kept_low - low_frequency(batch.reference, 8)).abs().mean()
            loss, figures["low_frequency"] = loss + term, float(term.detach())
        at.backward(loss)
        return figures | {"denoising_step": float(chosen), "anchor": float(gap.detach())}

    def _draft(self, settings: DraftSettings, batch: Batch, at: TrainingStep) -> Figures:
        policy, last = self.policy, min(settings.last, self.policy.steps)
        start = self._begun(batch)
        latents, _ = self._rolled(start, 0, policy.steps - last, start.latents, -1)
        gaps = []
        for index in range(policy.steps - last, policy.steps):
            output, gap = self._predicted(latents, index, start)
            latents = policy.transition(latents, output, index).mean
            gaps.append(gap)
        return self._rewarded(latents, start, torch.stack(gaps).mean(), batch, at)

    def _draft_lv(self, settings: DraftLvSettings, batch: Batch, at: TrainingStep) -> Figures:
        policy, draws = self.policy, settings.draws
        part = replace(at, backward=lambda loss: at.backward(loss / draws))
        start = self._begun(batch)
        clean, _ = self._rolled(start, 0, policy.steps, start.latents, -1)
        last = policy.steps - 1
        times = torch.full((len(clean),), policy.times[last])
        source = torch.Generator().manual_seed(self.seed * 1_000_003 + batch.number)
        found: list[Figures] = []
        for _ in range(draws):
            noise = batch.drawn(lambda size: torch.randn(size, generator=source), clean.shape).to(clean.device)
            noised = policy.schedule.noised(clean, noise, times)
            output, gap = self._predicted(noised, last, start)
            latents = policy.transition(noised, output, last).mean
            found.append(self._rewarded(latents, start, gap, batch, part))
        return {name: sum(one[name] for one in found) / draws for name in found[0]}

    def _rewarded(self, latents: torch.Tensor, start: Start, gap: torch.Tensor, batch: Batch, at: TrainingStep) -> Figures:
        """Decode the final latents, and take the reward's gradient there."""
        image = self._decoded(latents, batch, start)
        hinge = self.settings.hinge
        gradient, figures = reward_gradient(self.rewards, image.detach(), at.stage, at.share, hinge, batch.reference)
        at.backward(surrogate(image, gradient) + gap)
        return figures | {"anchor": float(gap.detach())}

    def _begun(self, batch: Batch) -> Start:
        return self.policy.begin(batch.low, self.policy.sources(batch.low, self.seed + 1 + batch.number))

    @torch.no_grad()
    def _rolled(
        self, start: Start, first: int, last: int, latents: torch.Tensor, keep: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents after the denoising steps `first` … `last` − 1, and those before step `keep`, which may be `last`."""
        kept = None
        with self.autocast():
            for index in range(first, last):
                kept = latents if index == keep else kept
                latents = self.policy.step(latents, index, start).mean
        return latents, latents if keep == last else kept

    def _predicted(self, latents: torch.Tensor, index: int, start: Start) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output, and its weighted squared distance to the untuned network's."""
        gap = torch.zeros((), device=latents.device)
        before = None
        if self.settings.anchor:
            with torch.no_grad(), self.policy.untuned(), self.autocast():
                before = self.policy.predict(latents.detach(), index, start).float()
        with self.autocast():
            output = self.policy.predict(latents, index, start)
        if before is not None:
            gap = self.settings.anchor * (output.float() - before).square().mean()
        return output, gap

    def _decoded(self, latents: torch.Tensor, batch: Batch, start: Start) -> torch.Tensor:
        with self.autocast():
            return self.policy.image(latents, batch.low, start).float()


ROUTES: dict[str, Callable[..., Figures]] = {"refl": Pathwise._refl, "draft": Pathwise._draft, "draft-lv": Pathwise._draft_lv}


def drawn_steps(rng: np.random.Generator, steps: int, late: tuple[float, float], early: float) -> tuple[int, int]:
    """ReFL's two denoising steps of `steps`: the one with the reward's gradient, drawn from the shares `late`, and one from the
    first share `early`, which is never after it."""
    low, high = (round(part * steps) for part in late)
    low = min(low, steps - 1)
    chosen = int(rng.integers(low, max(high, low + 1)))
    return chosen, min(chosen, int(rng.integers(max(1, round(early * steps)))))
