"""Denoising steps against diffusers' scheduler, and their likelihoods against torch's normal distribution."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from fgr.rlhf import sampling

STEPS = 5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_a_step_is_that_of_diffusers(prediction, eta, clip):
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=clip, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(0)
    sample, output, noise = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3))
    for time in scheduler.timesteps.tolist():
        before = time - 1000 // STEPS
        alpha_before = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        ours = sampling.transition(
            sample, output, float(scheduler.alphas_cumprod[time]), float(alpha_before), prediction, eta, 1.0 if clip else None
        )
        theirs = scheduler.step(output, time, sample, eta=eta, variance_noise=noise if eta else None)
        assert torch.allclose(ours.drawn(noise), theirs.prev_sample, atol=2e-4)
        assert torch.allclose(ours.clean, theirs.pred_original_sample, atol=2e-4)


def test_likelihood_and_divergence_are_those_of_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, other, value = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3))
    step, reference = sampling.Transition(mean, mean, 0.3), sampling.Transition(other, other, 0.3)
    assert torch.allclose(
        sampling.log_prob(value, step), torch.distributions.Normal(mean, 0.3).log_prob(value).mean(1), atol=1e-5
    )
    exact = torch.distributions.kl_divergence(torch.distributions.Normal(mean, 0.3), torch.distributions.Normal(other, 0.3))
    assert torch.allclose(sampling.divergence(step, reference), exact.mean(1), atol=1e-5)
    assert float(sampling.log_prob(mean, step)[0, 0, 0]) == pytest.approx(-math.log(0.3 * math.sqrt(2 * math.pi)))


def test_a_deterministic_step_has_neither():
    step = sampling.Transition(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), 0.0)
    assert torch.equal(step.drawn(torch.ones(1, 3, 2, 2)), step.mean)
    with pytest.raises(ValueError, match="no likelihood"):
        sampling.log_prob(step.mean, step)
    with pytest.raises(ValueError, match="no divergence"):
        sampling.divergence(step, step)
    with pytest.raises(ValueError, match="no prediction 'score'"):
        sampling.transition(step.mean, step.mean, 0.5, 0.6, "score", 0.0)
