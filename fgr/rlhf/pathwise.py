"""ReFL and DRaFT: the reward's gradient goes down through one late denoising step, or the last few.

ReFL (ImageReward, arXiv 2304.05977), DRaFT-K and DRaFT-LV (arXiv 2309.17400). The published code of ReFL hands the UNet the
place of a step in the schedule for its time; here it is the time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fgr.rlhf import objective
from fgr.rlhf.climb import Backward, Figures, Update, reward_gradient
from fgr.rlhf.denoisers import Begun
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.reward import Reward


@dataclass(frozen=True)
class Knobs:
    """See the recipe's `algorithm`; shares are of the denoising steps."""

    seed: int = 0
    late: tuple[float, float] = (0.75, 1.0)
    hinge: float | None = 2.0
    endpoint: bool = False
    early: float = 0.4
    low_frequency: float = 0.0
    last: int = 1
    draws: int = 2
    anchor: float = 0.0


class Pathwise:
    """One of ROUTES: where in sampling the gradient is taken."""

    def __init__(
        self, policy: DiffusionPolicy, rewards: list[Reward], route: str, knobs: Knobs,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.policy, self.rewards, self.knobs, self.autocast = policy, rewards, knobs, autocast
        self._route = ROUTES[route]

    def held(self, batch: Batch, start: torch.Tensor) -> float:
        """1: the reward's gradient at the output has the norm `reward.ratio` by itself."""
        return 1.0

    def step(self, network: Any, batch: Batch, stage: int, share: float, backward: Backward, update: Update) -> Figures:
        """See `climb.Algorithm`."""
        return self._route(self, batch, stage, share, backward)

    def _refl(self, batch: Batch, stage: int, share: float, backward: Backward) -> Figures:
        policy, knobs = self.policy, self.knobs
        rng = np.random.default_rng([knobs.seed, batch.number])
        low, high = (round(part * policy.steps) for part in knobs.late)
        low = min(low, policy.steps - 1)
        chosen = int(rng.integers(low, max(high, low + 1)))
        begun = self._begun(batch)
        early = min(chosen, int(rng.integers(max(1, round(knobs.early * policy.steps))))) if knobs.low_frequency else -1
        latents, kept = self._rolled(begun, 0, chosen, begun.latents, early)
        output, gap = self._predicted(latents, chosen, begun)
        step = policy.transition(latents, output, chosen)
        image = self._decoded(step.clean, batch, begun)
        seen = image.detach()
        if knobs.endpoint:  # the reward of the real sample, its gradient led to this step's prediction
            end, _ = self._rolled(begun, chosen + 1, policy.steps, step.mean.detach(), -1)
            with torch.no_grad():
                seen = self._decoded(end, batch, begun)
        gradient, figures = reward_gradient(self.rewards, seen, stage, share, knobs.hinge)
        loss = objective.surrogate(image, gradient) + gap
        if kept is not None and batch.reference is not None:
            guess = policy.transition(kept, self._predicted(kept, early, begun)[0], early).clean
            kept_low = objective.low_frequency(self._decoded(guess, batch, begun), 8)
            term = knobs.low_frequency * (kept_low - objective.low_frequency(batch.reference, 8)).abs().mean()
            loss, figures["low_frequency"] = loss + term, float(term.detach())
        backward(loss)
        return figures | {"denoising_step": float(chosen), "anchor": float(gap.detach())}

    def _draft(self, batch: Batch, stage: int, share: float, backward: Backward) -> Figures:
        policy, last = self.policy, min(self.knobs.last, self.policy.steps)
        begun = self._begun(batch)
        latents, _ = self._rolled(begun, 0, policy.steps - last, begun.latents, -1)
        gaps = []
        for index in range(policy.steps - last, policy.steps):
            output, gap = self._predicted(latents, index, begun)
            latents = policy.transition(latents, output, index).mean
            gaps.append(gap)
        return self._finished(latents, begun, torch.stack(gaps).mean(), batch, stage, share, backward)

    def _draft_lv(self, batch: Batch, stage: int, share: float, backward: Backward) -> Figures:
        policy, draws = self.policy, self.knobs.draws
        begun = self._begun(batch)
        clean, _ = self._rolled(begun, 0, policy.steps, begun.latents, -1)
        last = policy.steps - 1
        alpha = float(policy.denoiser.scheduler.alphas_cumprod[int(policy.times[last])])
        source = torch.Generator().manual_seed(self.knobs.seed * 1_000_003 + batch.number)
        found: list[Figures] = []
        for _ in range(draws):
            noise = torch.randn(clean.shape, generator=source).to(clean.device)
            noised = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
            output, gap = self._predicted(noised, last, begun)
            latents = policy.transition(noised, output, last).mean
            found.append(self._finished(latents, begun, gap, batch, stage, share, lambda loss: backward(loss / draws)))
        return {name: sum(one[name] for one in found) / draws for name in found[0]}

    def _finished(
        self, latents: torch.Tensor, begun: Begun, gap: torch.Tensor, batch: Batch, stage: int, share: float, backward: Backward
    ) -> Figures:
        image = self._decoded(latents, batch, begun)
        gradient, figures = reward_gradient(self.rewards, image.detach(), stage, share, self.knobs.hinge)
        backward(objective.surrogate(image, gradient) + gap)
        return figures | {"anchor": float(gap.detach())}

    def _begun(self, batch: Batch) -> Begun:
        return self.policy.begin(batch.low, self.policy.sources(batch.low, self.knobs.seed + 1 + batch.number))

    @torch.no_grad()
    def _rolled(
        self, begun: Begun, first: int, last: int, latents: torch.Tensor, keep: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents after the denoising steps `first` … `last` − 1, and those before step `keep`, which may be `last`."""
        kept = None
        with self.autocast():
            for index in range(first, last):
                kept = latents if index == keep else kept
                latents = self.policy.step(latents, index, begun).mean
        return latents, latents if keep == last else kept

    def _predicted(self, latents: torch.Tensor, index: int, begun: Begun) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output, and its weighted squared distance to the untuned network's."""
        gap = torch.zeros((), device=latents.device)
        before = None
        if self.knobs.anchor:
            with torch.no_grad(), self.policy.untuned(), self.autocast():
                before = self.policy.predict(latents.detach(), index, begun).float()
        with self.autocast():
            output = self.policy.predict(latents, index, begun)
        if before is not None:
            gap = self.knobs.anchor * (output.float() - before).square().mean()
        return output, gap

    def _decoded(self, latents: torch.Tensor, batch: Batch, begun: Begun) -> torch.Tensor:
        with self.autocast():
            return self.policy.image(latents, batch.low, begun).float()


ROUTES: dict[str, Callable[..., Figures]] = {"refl": Pathwise._refl, "draft": Pathwise._draft, "draft-lv": Pathwise._draft_lv}
