"""SeeSR against numbers recorded from its published implementation (cswry/SeeSR, commit 8edecc7), run on the same small weights,
inputs and noise in float32. The keys are those of its own state dicts."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_diffusion import image, restored

from fgr.errors import UserError
from fgr.sr import open_upscaler
from fgr.sr.diffusion.stepwise import Start, generators
from fgr.sr.diffusion.tagger import DAPE, RAM

MODELS, RECORDED = ("seesr",), "seesr_reference.npz"
SMALL = {"steps": 4, "prompt": "cat", "negative_prompt": "blur"}


def test_networks(reference, model):
    opened = model(guidance=1.0)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        tokens = opened.networks["tagger"](torch.rand(1, 3, 40, 56, generator=generator))
        reference.expect("tokens", tokens[:, ::6, ::4])
        text = opened.begin(torch.rand(1, 3, 32, 32), generators([image(0)], 0)).condition["text"]
        reference.expect("text", text[0, :4])
        latent, shown = torch.randn(1, 4, 16, 24, generator=generator), torch.rand(1, 3, 128, 192, generator=generator)
        time = torch.tensor([521])
        reference.expect(
            "unet", opened.predict(latent, time, Start(latent, {"tokens": tokens, "text": text, "without": None, "shown": shown}))
        )
        down, middle = opened.networks["control"](latent, time, text, shown, return_dict=False)  # of the same tokens
        reference.expect("control_first", down[0][:, :16])
        reference.expect("control_last", middle)


@pytest.mark.parametrize(
    ("key", "seed", "width", "settings"), [("square", 0, 32, {}), ("tiled", 1, 48, {"steps": 2, "latent_tile": 16})]
)
def test_whole_outputs(reference, model, sampled, key, seed, width, settings):
    """From an image to an image: tokens, both networks, guidance, start from the input; whole and in latent tiles."""
    reference.expect(key, sampled(model(**settings), image(seed, 32, width))[::2, ::2])


def test_small_and_odd_sizes_and_settings(folder):
    outputs = set()
    for settings in ({}, {"guidance": 1.0}, {"prompt": "dog"}, {"seed": 1}):
        output = restored("seesr", image(0, 19, 33), SMALL | {"steps": 2} | settings)
        assert output.shape == (76, 132, 3)
        outputs.add(output.tobytes())
    assert len(outputs) == 4


def test_a_dataset_of_it_verifies(dataset_of):
    assert dataset_of("seesr", SMALL | {"steps": 2}).is_dir()


def test_files_in_the_wrong_place_or_not_whole_are_refused(copied):
    unet = copied / "seesr" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(unet)
    save_file({name: one for name, one in state.items() if "image_attentions" not in name}, unet)
    with pytest.raises(UserError, match=r"safetensors does not hold SeeSR's unet: it has no image_attentions"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
    shutil.copy(copied / RAM, copied / DAPE)
    with pytest.raises(UserError, match=r"DAPE.pth does not hold DAPE's adapters: there is no tensor visual_encoder.*lora_A"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
    shutil.copy(unet, copied / "ram_swin_large_14m.safetensors")
    with pytest.raises(UserError, match=r"does not hold RAM's image encoder: there is no tensor"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
