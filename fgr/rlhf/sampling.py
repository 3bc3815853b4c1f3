"""One denoising step of DDIM (Song et al. 2021), deterministic or stochastic. Pure."""

import math
from dataclasses import dataclass

import torch

Prediction = str  # what the network predicts: epsilon, sample or v_prediction


@dataclass(frozen=True)
class Transition:
    """x_{t−1} given x_t is normal with this mean (B, C, H, W) and deviation; `clean` is the prediction of x_0."""

    clean: torch.Tensor
    mean: torch.Tensor
    sd: float

    def drawn(self, noise: torch.Tensor | None) -> torch.Tensor:
        """x_{t−1} for standard normal `noise`; the mean where the step is deterministic or there is none."""
        return self.mean if noise is None or not self.sd else self.mean + self.sd * noise


def transition(
    sample: torch.Tensor, output: torch.Tensor, alpha: float, alpha_before: float, prediction: Prediction, eta: float,
    clip: float | None = None,
) -> Transition:  # fmt: skip
    """The step from x_t (`sample`) by the network's `output`.

    `alpha` and `alpha_before` are the cumulative ᾱ_t and ᾱ_{t−1}; `eta` 0 is deterministic, 1 is DDPM; `clip` bounds x_0.
    Computed in float32: half precision overflows here. ValueError for a prediction that is not known.
    """
    sample, output = sample.float(), output.float()
    noise_share = math.sqrt(1 - alpha)
    if prediction == "epsilon":
        clean, noise = (sample - noise_share * output) / math.sqrt(alpha), output
    elif prediction == "v_prediction":
        clean = math.sqrt(alpha) * sample - noise_share * output
        noise = math.sqrt(alpha) * output + noise_share * sample
    elif prediction == "sample":
        clean = output
        noise = (sample - math.sqrt(alpha) * clean) / noise_share
    else:
        raise ValueError(f"there is no prediction '{prediction}'")
    if clip:
        clean = clean.clamp(-clip, clip)
    variance = (1 - alpha_before) / (1 - alpha) * (1 - alpha / alpha_before)
    sd = eta * math.sqrt(max(0.0, variance))
    mean = math.sqrt(alpha_before) * clean + math.sqrt(max(0.0, 1 - alpha_before - sd**2)) * noise
    return Transition(clean, mean, sd)


def log_prob(value: torch.Tensor, step: Transition) -> torch.Tensor:
    """Log-density of x_{t−1} a latent value: its mean over the channels, (B, H, W).

    A mean over places gives the (B,) that DDPO and its kin use, which divide by the number of values too. ValueError for a
    deterministic step.
    """
    if not step.sd:
        raise ValueError("a deterministic step has no likelihood")
    gap = (value.float() - step.mean) / step.sd
    return (-0.5 * gap.square() - math.log(step.sd) - 0.5 * math.log(2 * math.pi)).mean(1)


def divergence(step: Transition, reference: Transition) -> torch.Tensor:
    """KL of two steps of the same deviation, a latent value: ‖μ − μ_ref‖² / 2σ², mean over the channels, (B, H, W)."""
    if not step.sd:
        raise ValueError("deterministic steps have no divergence")
    return ((step.mean - reference.mean) / step.sd).square().mean(1) / 2
