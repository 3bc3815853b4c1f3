"""ResShift's schedule and steps, and SinSR's only one: the residual of two latents is shifted in."""

import math

import numpy as np
import torch

from fgr.sr.diffusion.samplers import Earlier, Transition

KAPPA, POWER, LAST_ETA = 2.0, 0.3, 0.99  # of ResShift


class ResidualShiftSampler:
    """ResShift (Yue et al., arXiv 2307.12348): the residual between the two latents is shifted in by shares η, under noise.

    `steps` steps are chosen evenly of the `length` that the network was trained with; `least` is the first share. Its published
    steps are ancestral, and there is no other form of them here.
    """

    def __init__(self, length: int, least: float, steps: int) -> None:
        first = min(least / KAPPA, least)
        exponents = np.linspace(0, 1, length) ** POWER * (length - 1)
        roots = first * np.exp(math.log(LAST_ETA / first) / (length - 1)) ** exponents
        times = [int(length / steps * i) for i in range(steps)]
        self.times = times[::-1]
        self.eta = eta = roots[times] ** 2
        before = np.append(0.0, eta[:-1])
        self._keep, self._take = before / eta, (eta - before) / eta
        self._deviation = KAPPA * np.sqrt(before / eta * (eta - before))
        self._scales = torch.from_numpy(np.sqrt(roots**2 * KAPPA**2 + 1))

    def beginning(self, known: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The last state: the input's latent under the most noise."""
        return known + float(KAPPA * np.sqrt(self.eta[-1])) * noise

    def scaled(self, latents: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """States at `times` (B,) as the network is shown them, with variance near one."""
        return latents / self._scales.to(latents.device, latents.dtype)[times].view(-1, 1, 1, 1)

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`; the prediction is of the image's latent. ValueError for an `eta` other than 1."""
        if eta not in (None, 1):
            raise ValueError("the steps of ResShift are ancestral: eta is 1")
        i = len(self.times) - 1 - index
        mean = float(self._keep[i]) * latents + float(self._take[i]) * prediction
        return Transition(prediction, mean, float(self._deviation[i]))


class OneShiftSampler(ResidualShiftSampler):
    """SinSR's only step: what the network predicts at the last of `length` times is the result."""

    def __init__(self, length: int, least: float) -> None:
        super().__init__(length, least, length)
        self.times = self.times[:1]

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`; there is nothing to draw."""
        return Transition(prediction, prediction, 0.0)
