"""Ancestral sampling on a shortened chain of Stable Diffusion's noise schedule."""

import numpy as np
import torch

STEPS = 1000
FIRST_BETA, LAST_BETA = 0.00085, 0.012


def alphas_cumprod() -> np.ndarray:
    """ᾱ of Stable Diffusion for t = 0 … 999, float64: β rises linearly in its square root."""
    betas = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, STEPS) ** 2
    return np.cumprod(1 - betas)


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


class Chain:
    """q and p of a chain that visits `times` only; i counts its steps from 0, `times[i]` is what the networks are told."""

    def __init__(self, times: list[int], cumulative: np.ndarray | None = None) -> None:
        everything = alphas_cumprod() if cumulative is None else cumulative
        self.times = times
        self._all = everything
        bar = everything[times]
        before = np.append(1.0, bar[:-1])
        alpha = bar / before
        self._bar = bar
        self._from_start = (1 - alpha) * np.sqrt(before) / (1 - bar)
        self._from_now = (1 - before) * np.sqrt(alpha) / (1 - bar)
        self._deviation = np.sqrt(np.maximum((1 - alpha) * (1 - before) / (1 - bar), 1e-20))

    def noised(self, start: torch.Tensor, time: int, noise: torch.Tensor) -> torch.Tensor:
        """A sample of q(x_time | x_0 = start), `time` on the full chain."""
        return float(np.sqrt(self._all[time])) * start + float(np.sqrt(1 - self._all[time])) * noise

    def start(self, now: torch.Tensor, i: int, prediction: torch.Tensor, kind: str = "epsilon") -> torch.Tensor:
        """x_0 as a network's prediction of the noise ("epsilon") or of the velocity ("v") implies it at step i."""
        signal, noise = float(np.sqrt(self._bar[i])), float(np.sqrt(1 - self._bar[i]))
        if kind == "v":
            return signal * now - noise * prediction
        return (now - noise * prediction) / signal

    def step(self, now: torch.Tensor, i: int, start: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sample of p(x_{i−1} | x_i, x_0 = start); the mean at i = 0, where `noise` is not used."""
        mean = float(self._from_start[i]) * start + float(self._from_now[i]) * now
        return mean if i == 0 or noise is None else mean + float(self._deviation[i]) * noise
