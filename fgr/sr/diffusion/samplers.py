"""Noise schedules and denoising steps on them: DDIM, ancestral, multistep; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

STEPS = 1000
FIRST_BETA, LAST_BETA = 0.00085, 0.012
NO_SIGNAL = 1e-8  # ᾱ that stands for none, so that noise can be measured by the signal

Earlier = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Transition:
    """x_{t−1} given x_t is normal with this mean (B, C, h, w) and standard deviation; `clean` is the prediction of x_0."""

    clean: torch.Tensor
    mean: torch.Tensor
    sd: float

    def drawn(self, noise: torch.Tensor | None) -> torch.Tensor:
        """x_{t−1} for standard normal `noise`; the mean where the step is deterministic or there is none."""
        return self.mean if noise is None or not self.sd else self.mean + self.sd * noise

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Log-density of x_{t−1} = `value` a latent value: its mean over the channels, (B, h, w).

        A mean over places gives the (B,) that DDPO and its kin use, which divide by the number of values too. ValueError for a
        deterministic step.
        """
        if not self.sd:
            raise ValueError("a deterministic step has no likelihood")
        gap = (value.float() - self.mean) / self.sd
        return (-0.5 * gap.square() - math.log(self.sd) - 0.5 * math.log(2 * math.pi)).mean(1)

    def divergence(self, reference: "Transition") -> torch.Tensor:
        """KL from a step of the same deviation, a latent value: ‖μ − μ_ref‖² / 2σ², mean over the channels, (B, h, w)."""
        if not self.sd:
            raise ValueError("deterministic steps have no divergence")
        return ((self.mean - reference.mean) / self.sd).square().mean(1) / 2


class Sampler(Protocol):
    """The denoising steps of a model, on its noise schedule."""

    times: list[int]  # what the network is told at each denoising step, from the noisiest on

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """Denoising step `index` from `latents`, given the network's prediction there.

        `eta` says how stochastic it is: 0 = deterministic (DDIM), 1 = ancestral (DDPM), None = as the model is published.
        `earlier` are the clean latents that the steps before predicted, the latest first: multistep samplers use them.
        """


class NoiseSchedule:
    """q(x_t | x_0) = N(√ᾱ_t · x_0, 1 − ᾱ_t), and what a network predicts of it: epsilon, v_prediction or sample."""

    def __init__(self, cumulative: torch.Tensor, prediction: str) -> None:
        if prediction not in TARGETS:
            raise ValueError(f"there is no prediction '{prediction}'")
        self.cumulative, self.prediction = cumulative, prediction

    def noised(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """x_t of x_0 = `clean` (B, C, h, w) and standard normal `noise`; `times` (B,) on the full schedule."""
        signal, rest = self._shares(times, clean)
        return signal * clean + rest * noise

    def target(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """What the network should predict of `noised(clean, noise, times)`."""
        return TARGETS[self.prediction](clean, noise, *self._shares(times, clean))

    def _shares(self, times: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bar = self.cumulative[times.cpu()].view(-1, 1, 1, 1)
        return bar.sqrt().to(like.device, like.dtype), (1 - bar).sqrt().to(like.device, like.dtype)


TARGETS: dict[str, Any] = {
    "epsilon": lambda clean, noise, signal, rest: noise,
    "v_prediction": lambda clean, noise, signal, rest: signal * noise - rest * clean,
    "sample": lambda clean, noise, signal, rest: clean,
}


class DdimSampler(NoiseSchedule):
    """DDIM (Song et al., arXiv 2010.02502) as a scheduler of diffusers is configured; the same floats as its own steps."""

    def __init__(self, scheduler: Any, steps: int, eta: float = 0.0) -> None:
        super().__init__(scheduler.alphas_cumprod, scheduler.config.prediction_type)
        self._eta = eta  # as published
        scheduler.set_timesteps(steps)
        self.times = [int(time) for time in scheduler.timesteps]
        self._stride = scheduler.config.num_train_timesteps // steps
        self._last = scheduler.final_alpha_cumprod
        self._clip = scheduler.config.clip_sample_range if scheduler.config.clip_sample else None

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`."""
        time, eta = self.times[index], self._eta if eta is None else eta
        before = self.cumulative[time - self._stride] if time >= self._stride else self._last
        return ddim_step(latents, prediction, self.cumulative[time], before, self.prediction, eta, self._clip)


class ToldDdimSampler(NoiseSchedule):
    """DDIM on Stable Diffusion's schedule as StableSR's script runs it.

    The network is told evenly spread times from 999 to 0, while the steps are those of times a little below. Kept as it is: the
    published settings are made for it.
    """

    def __init__(self, steps: int, prediction: str, eta: float) -> None:
        super().__init__(torch.from_numpy(alphas_cumprod()), prediction)
        self.times = spaced(steps)[::-1]
        self._eta = eta
        bar = self.cumulative[: steps * (STEPS // steps) : STEPS // steps]
        self._bar, self._before = bar.flip(0), torch.cat([bar[:1], bar[:-1]]).flip(0)

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`."""
        eta = self._eta if eta is None else eta
        return ddim_step(latents, prediction, self._bar[index], self._before[index], self.prediction, eta)


class AncestralSampler(NoiseSchedule):
    """Draws of p(x_{t−1} | x_t) on a chain that visits `times` (ascending) only, of Stable Diffusion's schedule or another."""

    def __init__(self, times: list[int], cumulative: np.ndarray | None = None, prediction: str = "epsilon") -> None:
        everything = alphas_cumprod() if cumulative is None else cumulative
        super().__init__(torch.from_numpy(everything), prediction)
        self.times = times[::-1]
        self._bar = bar = everything[times]
        self._before = before = np.append(1.0, bar[:-1])
        alpha = bar / before
        self._from_start = (1 - alpha) * np.sqrt(before) / (1 - bar)
        self._from_now = (1 - before) * np.sqrt(alpha) / (1 - bar)
        self._deviation = np.sqrt(np.maximum((1 - alpha) * (1 - before) / (1 - bar), 1e-20))

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`; ancestral where `eta` is not given."""
        i = len(self.times) - 1 - index
        if eta is not None and eta != 1:
            alpha, before = (torch.tensor(float(bar[i]), dtype=torch.float64) for bar in (self._bar, self._before))
            return ddim_step(latents, prediction, alpha, before, self.prediction, eta)
        signal, rest = float(np.sqrt(self._bar[i])), float(np.sqrt(1 - self._bar[i]))
        clean = _clean(latents, prediction, self.prediction, signal, rest)
        mean = float(self._from_start[i]) * clean + float(self._from_now[i]) * latents
        return Transition(clean, mean, float(self._deviation[i]) if i else 0.0)


class MultistepSampler(NoiseSchedule):
    """DPM-Solver++ for the stochastic equation (Lu et al., arXiv 2211.01095), of third order: DPM++ 3M SDE of k-diffusion.

    `steps` times from the noisiest on, evenly spread; what the two steps before predicted says how the prediction bends. Latents
    are scaled as everywhere here, x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε; published code divides them by √ᾱ_t.
    """

    def __init__(self, steps: int, cumulative: np.ndarray, prediction: str) -> None:
        super().__init__(torch.from_numpy(cumulative), prediction)
        self.times = [int(time) for time in np.linspace(len(cumulative) - 1, 0, steps, endpoint=False)]
        bar = cumulative[self.times]
        bar[0] = NO_SIGNAL
        self._bar = np.append(bar, 1.0)
        self._noise = np.append(np.log((1 - bar) / bar) / 2, -np.inf)  # log of noise over signal

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`; where `eta` is given DDIM's step along the same times."""
        bar, after = float(self._bar[index]), float(self._bar[index + 1])
        if eta is not None:
            alpha, before = (torch.tensor(one, dtype=torch.float64) for one in (bar, after))
            return ddim_step(latents, prediction, alpha, before, self.prediction, eta)
        clean = _clean(latents, prediction, self.prediction, math.sqrt(bar), math.sqrt(1 - bar))
        if after == 1:
            return Transition(clean, clean, 0.0)
        twice = 2 * float(self._noise[index] - self._noise[index + 1])
        kept = math.exp(-twice)
        inner = (kept / math.sqrt(bar)) * latents + (1 - kept) * clean
        mean = math.sqrt(after) * (inner + self._bend(clean, index, twice, earlier))
        return Transition(clean, mean, math.sqrt((1 - after) * (1 - kept)))

    def _bend(self, clean: torch.Tensor, index: int, twice: float, earlier: Earlier) -> torch.Tensor | float:
        """What first and second differences of the clean latents add to the step."""
        number = min(len(earlier), index, 2)
        if not number:
            return 0.0
        length = twice / 2
        first = math.expm1(-twice) / twice + 1
        ratio = float(self._noise[index - 1] - self._noise[index]) / length
        slope = (clean - earlier[0]) / ratio
        if number == 1:
            return first * slope
        ratio_before = float(self._noise[index - 2] - self._noise[index - 1]) / length
        slope_before = (earlier[0] - earlier[1]) / ratio_before
        change = (slope - slope_before) / (ratio + ratio_before)
        return first * (slope + change * ratio) - (first / twice - 0.5) * change


def ddim_step(
    latents: torch.Tensor, prediction: torch.Tensor, alpha: torch.Tensor, alpha_before: torch.Tensor, kind: str, eta: float,
    clip: float | None = None,
) -> Transition:  # fmt: skip
    """DDIM's step from x_t (`latents`), in the order of operations of diffusers, so that floats are the same.

    `alpha` and `alpha_before` are the cumulative ᾱ_t and ᾱ_{t−1}, tensors without dimensions; `eta` 0 is deterministic, 1 is
    DDPM; `clip` bounds x_0. ValueError for a `kind` of prediction that is not known.
    """
    signal, rest = alpha**0.5, (1 - alpha) ** 0.5
    clean = _clean(latents, prediction, kind, signal, rest)
    noise = {
        "epsilon": lambda: prediction,
        "v_prediction": lambda: signal * prediction + rest * latents,
        "sample": lambda: (latents - signal * clean) / rest,
    }[kind]()
    if clip:
        clean = clean.clamp(-clip, clip)
    variance = (1 - alpha_before) / (1 - alpha) * (1 - alpha / alpha_before)
    sd = eta * variance.clamp_min(0) ** 0.5
    mean = alpha_before**0.5 * clean + (1 - alpha_before - sd**2).clamp_min(0) ** 0.5 * noise
    return Transition(clean, mean, float(sd))


def _clean(latents: torch.Tensor, prediction: torch.Tensor, kind: str, signal: Any, rest: Any) -> torch.Tensor:
    """x_0 as a network's prediction of the noise, of the velocity or of itself implies it."""
    if kind == "epsilon":
        return (latents - rest * prediction) / signal
    if kind == "v_prediction":
        return signal * latents - rest * prediction
    if kind == "sample":
        return prediction
    raise ValueError(f"there is no prediction '{kind}'")


def alphas_cumprod() -> np.ndarray:
    """ᾱ of Stable Diffusion for t = 0 … 999, float64: β rises linearly in its square root."""
    betas = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, STEPS) ** 2
    return np.cumprod(1 - betas)


def zero_terminal(cumulative: np.ndarray) -> np.ndarray:
    """A noise schedule moved so that nothing of the signal is left at its end (arXiv 2305.08891): ᾱ of the same length."""
    roots = np.sqrt(cumulative)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def spaced(steps: int) -> list[int]:
    """`steps` timesteps of 0 … 999, evenly spread from first to last, ascending; one step is the first. ValueError above 1000."""
    if not 1 <= steps <= STEPS:
        raise ValueError(f"there are 1 to {STEPS} steps, not {steps}")
    stride = (STEPS - 1) / (steps - 1) if steps > 1 else 1.0
    times, position = [], 0.0
    for _ in range(steps):  # summed up, as published: rounding of .5 depends on it
        times.append(round(position))
        position += stride
    return times
