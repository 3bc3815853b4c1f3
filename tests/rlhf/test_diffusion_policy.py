"""Diffusion policies on small random weights in the official layouts."""

import numpy as np
import pytest
import torch
from small_diffusion import image, restored
from toy_diffusion import moved

from fgr.recipe.sampling import Sampling
from fgr.rlhf.diffusion_policy import open_diffusion_policy
from fgr.sr import Job, open_upscaler

MODELS = ("sd-x4-upscaler", "ldm-sr", "stablesr", "osediff")
STEPS = {"steps": 3}
FEW = Sampling(**STEPS)
KNOBS = {
    "sd-x4-upscaler": STEPS, "ldm-sr": STEPS, "osediff": {}, "stablesr": STEPS | {"latent_tile": 16, "latent_overlap": 8},
}  # fmt: skip
NAMES = ("sd-x4-upscaler", "ldm-sr", "osediff")  # sampled in tuning as the upscaler samples

LOW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_what_the_upscaler_gives(folder, name):
    policy = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    policy.learn_lora(2, 4)
    pixels = image(0, 16, 13)
    low = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    found = (policy.start(low)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(found - restored(name, pixels, KNOBS[name])).max() <= 1
    assert torch.equal(policy(low), policy.start(low))


@pytest.mark.parametrize("name", NAMES)
def test_the_lora_file_makes_the_upscaler_give_the_policys_samples(folder, name, tmp_path):
    policy = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    policy.learn_lora(2, 4)
    start = policy.start(LOW)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    assert not torch.allclose(policy(LOW), start, atol=0.01)
    policy.save(tmp_path / "best.safetensors", step="1")
    pixels = image(0)
    low = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    wanted = (policy(low)[0].permute(1, 2, 0) * 255).round().detach().numpy()
    assert np.abs(restored(f"{name}+lora:{tmp_path / 'best.safetensors'}", pixels, KNOBS[name]) - wanted).max() <= 1
    assert np.abs(restored(name, pixels, KNOBS[name]) - wanted).max() > 1


def test_stablesr_is_sampled_by_ddim_on_its_own_networks(folder, tmp_path):
    knobs = KNOBS["stablesr"]
    policy = open_diffusion_policy("stablesr", Sampling(**knobs))
    restorer = open_upscaler("stablesr", scale=4, diffusion=knobs).restorer
    times = [int(time) for time in policy.times]
    begun = policy.begin(LOW, policy.sources(LOW, 0))
    with torch.inference_mode():
        known = begun.condition["known"]
        wanted = restorer._predicted(begun.latents, known, times[0])
        assert torch.allclose(policy.predict(begun.latents, 0, begun), wanted, atol=1e-4)
        assert policy.denoiser.scheduler.alphas_cumprod[times[0]] == pytest.approx(restorer._chain._all[times[0]], rel=1e-5)
    policy.learn_lora(2, 4)
    start = policy.start(LOW)
    assert start.shape == (2, 3, 64, 64)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    policy.save(tmp_path / "best.safetensors")
    name = f"stablesr+lora:{tmp_path / 'best.safetensors'}"
    outputs = [
        open_upscaler(one, scale=4, diffusion=knobs).upscale([Job(image(0), "", (64, 64), (0, 0, 64))])[0]
        for one in ("stablesr", name)
    ]
    assert np.abs(outputs[0].astype(int) - outputs[1]).max() > 5
