"""Low-rank changes of diffusion models as files: read by diffusers too, refused where they do not fit."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_diffusion import diffusion_policy, moved

from fgr.errors import UserError
from fgr.recipe.sampling import Sampling
from fgr.sr import license_of, open_upscaler, parse_name
from fgr.sr.diffusion.opening import open_model
from fgr.sr.diffusion.stepwise import sample

MODELS = ("sd-x4-upscaler", "ldm-sr", "osediff")
LOW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["sd-x4-upscaler", "osediff"])
def test_diffusers_itself_reads_the_lora_file(folder, tmp_path, name):
    settings = {"steps": 3} if name != "osediff" else {}
    policy = moved(diffusion_policy(name, settings))
    policy.save(tmp_path / "best.safetensors")
    other = open_model(name, Sampling(prompt="", **settings), torch.device("cpu"))  # as the policy
    other.networks["unet"].load_lora_adapter(str(tmp_path), weight_name="best.safetensors", prefix="unet")
    with torch.no_grad():
        found = sample(other, LOW, policy.sources(LOW, 0))
    assert torch.allclose(found.clamp(0, 1), policy(LOW), atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: {key: value for key, value in state.items() if "lora_A" in key}, "is not a LoRA file"),
        (lambda state: {f"{key.replace('to_q', 'to_z')}": value for key, value in state.items()}, "is not in the UNet"),
        (
            lambda state: {key: value[:, :1] if "lora_A" in key else value for key, value in state.items()},
            "has another size there",
        ),
    ],
)
def test_a_lora_file_that_does_not_fit_is_named(folder, tmp_path, spoil, said):
    policy = diffusion_policy("sd-x4-upscaler", {"steps": 3})
    policy.save(tmp_path / "good.safetensors")
    state = {key: value.contiguous() for key, value in spoil(load_file(tmp_path / "good.safetensors")).items()}
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=said):
        open_upscaler(f"sd-x4-upscaler+lora:{tmp_path / 'bad.safetensors'}", scale=4)


def test_a_lora_of_another_base_is_refused(folder, tmp_path):
    policy = diffusion_policy("sd-x4-upscaler", {"steps": 3})
    policy.save(tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="was tuned on 'sd-x4-upscaler'"):
        open_upscaler(f"ldm-sr+lora:{tmp_path / 'lora.safetensors'}", scale=4)
    policy.digest = "0" * 64
    policy.save(tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="was tuned on other weights of 'sd-x4-upscaler'"):
        open_upscaler(f"sd-x4-upscaler+lora:{tmp_path / 'lora.safetensors'}", scale=4)


def test_names_with_low_rank_changes():
    parse_name("sd-x4-upscaler+lora:best.safetensors")
    assert license_of("sd-x4-upscaler+lora:best.safetensors") == license_of("sd-x4-upscaler")
    for name in ("realesrgan+lora:best.safetensors", "ldm-sr+lora:"):
        with pytest.raises(UserError, match="does not name a diffusion model with low-rank changes"):
            parse_name(name)
