"""Denoising steps against diffusers' scheduler and against one another; their likelihoods against torch's normal distribution."""

import math

import pytest
import torch
from diffusers import DDIMScheduler

from fgr.sr.diffusion.residual_shift import ResidualShiftSampler
from fgr.sr.diffusion.samplers import (
    AncestralSampler,
    DdimSampler,
    NoiseSchedule,
    Transition,
    spaced,
)

STEPS = 5


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("clip", [False, True])
def test_a_ddim_step_has_the_very_floats_of_diffusers(prediction, eta, clip):
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=clip, set_alpha_to_one=False, steps_offset=1)
    sampler = DdimSampler(scheduler, STEPS)
    generator = torch.Generator().manual_seed(0)
    latents, output, noise = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3))
    assert sampler.times == scheduler.timesteps.tolist()
    for index, time in enumerate(sampler.times):
        ours = sampler.step(latents, output, index, eta)
        theirs = scheduler.step(output, time, latents, eta=eta, variance_noise=noise if eta else None)
        assert torch.equal(ours.clean, theirs.pred_original_sample)
        if eta:
            assert torch.allclose(ours.drawn(noise), theirs.prev_sample, atol=1e-6)
        else:
            assert torch.equal(ours.mean, theirs.prev_sample)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noised_latents_and_targets_are_those_of_diffusers(prediction):
    scheduler = DDIMScheduler(prediction_type=prediction)
    schedule, times = DdimSampler(scheduler, STEPS), torch.tensor([3, 700])
    clean, noise = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(schedule.noised(clean, noise, times), scheduler.add_noise(clean, noise, times))
    targets = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, times)}
    assert torch.equal(schedule.target(clean, noise, times), targets[prediction])


def test_an_ancestral_step_is_ddims_with_eta_one():
    """On one chain; by the formulas of each, so up to rounding."""
    sampler, generator = AncestralSampler(spaced(STEPS)), torch.Generator().manual_seed(0)
    latents, output = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    for index in range(STEPS):
        ancestral, near = sampler.step(latents, output, index), sampler.step(latents, output, index, 1 - 1e-9)
        assert torch.allclose(ancestral.mean, near.mean, atol=1e-6)
        assert ancestral.sd == pytest.approx(near.sd, abs=1e-6)
        assert sampler.step(latents, output, index, 0).sd == 0


def test_a_thousand_steps_are_the_whole_chain():
    assert spaced(1000) == list(range(1000))
    with pytest.raises(ValueError, match="1 to 1000 steps, not 1001"):
        spaced(1001)


def test_a_velocity_and_the_noise_give_the_same_clean_latent():
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 3, 1, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    for kind in ("epsilon", "v_prediction"):
        sampler = AncestralSampler(spaced(10), prediction=kind)
        times = torch.full((2,), sampler.times[4])
        now = sampler.noised(clean, noise, times)
        assert torch.allclose(sampler.step(now, sampler.target(clean, noise, times), 4).clean, clean)


def test_likelihood_and_divergence_are_those_of_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    mean, other, value = (torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3))
    step, reference = Transition(mean, mean, 0.3), Transition(other, other, 0.3)
    assert torch.allclose(step.log_prob(value), torch.distributions.Normal(mean, 0.3).log_prob(value).mean(1), atol=1e-5)
    exact = torch.distributions.kl_divergence(torch.distributions.Normal(mean, 0.3), torch.distributions.Normal(other, 0.3))
    assert torch.allclose(step.divergence(reference), exact.mean(1), atol=1e-5)
    assert float(step.log_prob(mean)[0, 0, 0]) == pytest.approx(-math.log(0.3 * math.sqrt(2 * math.pi)))


def test_a_deterministic_step_has_neither_and_what_is_not_known_is_refused():
    step = Transition(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), 0.0)
    assert torch.equal(step.drawn(torch.ones(1, 3, 2, 2)), step.mean)
    with pytest.raises(ValueError, match="no likelihood"):
        step.log_prob(step.mean)
    with pytest.raises(ValueError, match="no divergence"):
        step.divergence(step)
    with pytest.raises(ValueError, match="no prediction 'score'"):
        NoiseSchedule(torch.ones(1), "score")
    with pytest.raises(ValueError, match="ancestral: eta is 1"):
        ResidualShiftSampler(4, 0.2, 4).step(step.mean, step.mean, 0, 0.5)
