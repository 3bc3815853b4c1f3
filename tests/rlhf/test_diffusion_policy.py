"""Diffusion policies on small random weights in the official layouts."""

import numpy as np
import pytest
import torch
from small_diffusion import image, restored
from toy_diffusion import LOW as TOY_LOW
from toy_diffusion import diffusion_policy, moved, toy

MODELS = ("sd-x4-upscaler", "ldm-sr", "stablesr", "osediff", "diffbir", "seesr")
STEPS = {"steps": 3}
SETTINGS = {
    "sd-x4-upscaler": STEPS, "ldm-sr": STEPS | {"eta": 0.0}, "osediff": {"prompt": ""},
    "stablesr": STEPS | {"latent_tile": 16, "latent_overlap": 8}, "diffbir": {"steps": 2, "prompt": ""},
    "seesr": {"steps": 2, "prompt": ""},
}  # fmt: skip
DETERMINISTIC = ("sd-x4-upscaler", "ldm-sr", "osediff")  # the upscaler samples by the policy's own steps
LOW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def as_low(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def as_pixels(output):
    return (output[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_start_is_what_the_upscaler_gives(folder, name):
    policy = diffusion_policy(name, SETTINGS[name])
    pixels = image(0, 16, 13)
    low = as_low(pixels)
    assert np.array_equal(as_pixels(policy.start(low)), restored(name, pixels, SETTINGS[name]))
    assert torch.equal(policy(low), policy.start(low))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_lora_file_makes_the_upscaler_give_the_policys_samples(folder, name, tmp_path):
    policy = diffusion_policy(name, SETTINGS[name])
    start = policy.start(LOW)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    assert not torch.allclose(policy(LOW), start, atol=0.01)
    policy.save(tmp_path / "best.safetensors", step="1")
    pixels = image(0)
    wanted = as_pixels(policy(as_low(pixels))).astype(int)
    tuned = restored(f"{name}+lora:{tmp_path / 'best.safetensors'}", pixels, SETTINGS[name])
    assert np.abs(tuned - wanted).max() <= 1
    assert np.abs(restored(name, pixels, SETTINGS[name]) - wanted).max() > 1


@pytest.mark.parametrize(("name", "times"), [("stablesr", [999, 500, 0]), ("diffbir", [999, 499]), ("seesr", [501, 1])])
def test_others_begin_and_end_as_the_upscaler_does_but_take_deterministic_steps(folder, name, times, tmp_path):
    policy = diffusion_policy(name, SETTINGS[name])
    assert policy.times == times
    begun = policy.begin(LOW, policy.sources(LOW, 0))
    step = policy.step(begun.latents, 0, begun)
    assert step.sd == 0
    ancestral = policy.step(begun.latents, 0, begun, eta=1.0)
    assert ancestral.sd > 0
    assert torch.allclose(step.clean, ancestral.clean, atol=1e-4)
    start = policy.start(LOW)
    assert start.shape == (2, 3, 64, 64)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    policy.save(tmp_path / "best.safetensors")
    names = (name, f"{name}+lora:{tmp_path / 'best.safetensors'}")
    outputs = [restored(one, image(0), SETTINGS[name]).astype(int) for one in names]
    assert np.abs(outputs[0] - outputs[1]).max() > 5


@pytest.mark.parametrize("name", MODELS)
def test_gradients_go_through_a_step_and_the_decoder_and_recomputing_changes_none(folder, name):
    policy, gradients = moved(diffusion_policy(name, SETTINGS[name])), []
    for recompute in (False, True):
        policy.recompute = recompute
        begun = policy.begin(LOW, policy.sources(LOW, 0))
        other = policy.begin(LOW.flip(0), policy.sources(LOW.flip(0), 0))  # a start keeps what it needs to itself
        policy.image(policy.step(begun.latents, 0, begun).clean, LOW, begun).square().mean().backward()
        assert other.latents.shape == begun.latents.shape
        gradients.append({key: value.grad for key, value in policy.learned().items()})
        for value in policy.learned().values():
            value.grad = None
    assert any(float(value.abs().max()) > 0 for value in gradients[0].values())
    assert all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])
    assert all(value.grad is None for value in policy.network.parameters() if not value.requires_grad)


def test_the_autoencoder_never_works_in_fp16():
    """Its activations overflow there; in bfloat16, whose range is that of float32, they do not."""
    policy = toy()
    seen = []

    def decode(latents, start):
        seen.append(torch.is_autocast_enabled("cpu"))
        return torch.nn.functional.interpolate(latents, scale_factor=32)

    policy.model.decode = decode
    start = policy.begin(TOY_LOW, policy.sources(TOY_LOW, 0))
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype):
            policy.image(start.latents, TOY_LOW, start)
    assert seen == [False, True]
