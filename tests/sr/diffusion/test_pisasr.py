"""PiSA-SR against numbers recorded from its published implementation (csslc/PiSA-SR, commit 9c76e12), which merged its adapters
itself, on the same small weights, inputs and noise in float32."""

import pytest
import torch
from small_diffusion import image

from fgr.errors import UserError
from fgr.sr import license_of, open_upscaler
from fgr.sr.diffusion.stepwise import generators
from fgr.sr.fetch import fetch

MODELS, RECORDED = ("pisasr",), "pisasr_reference.npz"


def test_the_residual_of_the_latents(reference, model):
    opened, pixels = model(), image(0, 32, 32)
    with torch.inference_mode():
        start = opened.begin(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, generators([pixels], 0))
        reference.expect("residual", opened.predict(start.latents, torch.tensor([1]), start))


@pytest.mark.parametrize(
    ("key", "seed", "width", "settings"),
    [
        ("square", 0, 32, {}),
        ("adjusted", 0, 32, {"lambda_pix": 1.2, "lambda_sem": 0.7}),
        ("tiled", 1, 48, {"latent_tile": 16, "latent_overlap": 8}),
    ],
)
def test_whole_outputs(reference, model, sampled, key, seed, width, settings):
    """From an image to an image: as published, with both changes weighted, in three latent tiles."""
    reference.expect(key, sampled(model(**settings), image(seed, 32, width))[::2, ::2])


def test_one_step_is_all_there_is(folder):
    with pytest.raises(UserError, match="PiSA-SR has one step, but steps=2 was requested"):
        open_upscaler("pisasr", scale=4, diffusion={"steps": 2})


def test_what_is_offered_to_people_alone_is_said_with_its_page_and_place(copied):
    (copied / "pisa_sr.pkl").unlink()
    with pytest.raises(UserError, match=r"there is no pisa_sr\.pkl"):
        open_upscaler("pisasr", scale=4)
    with pytest.raises(UserError, match=r"offer it on https://drive.google.com/\S+ alone.\nDownload it there and put it into"):
        fetch("pisasr")
    assert license_of("pisasr") == "Apache-2.0 AND CreativeML-OpenRAIL++-M"


def test_another_models_adapters_are_refused(copied):
    torch.save({"state_dict_unet": {}}, copied / "pisa_sr.pkl")
    with pytest.raises(UserError, match=r"pisa_sr.pkl does not hold PiSA-SR's adapters .*\nPut pisa_sr.pkl in its place"):
        open_upscaler("pisasr", scale=4)
