"""InvSR against numbers recorded from its published implementation (zsyOAOA/InvSR, commit 609788c), run on the same small
weights, inputs and noise in float32."""

import pytest
import torch
from small_diffusion import image

from fgr.errors import UserError
from fgr.sr import Job, license_of, open_upscaler
from fgr.sr.diffusion.invsr import falling_off

MODELS, RECORDED = ("invsr",), "invsr_reference.npz"
WORDS = {"prompt": "cat", "negative_prompt": "blur"}


def test_the_noise_predictor(reference, model):
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        reference.expect("moments", model(**WORDS).networks["noise predictor"](images, torch.tensor([199, 100])))


@pytest.mark.parametrize(("key", "pixels", "settings"), [
    ("one", image(0, 32, 32), {}),
    ("odd", image(1, 21, 30), {"steps": 3, "guidance": 2.0}),
])  # fmt: skip
def test_whole_outputs(reference, model, sampled, key, pixels, settings):
    """From an image to an image: in one step; a small one, extended to what the model is shown, in three steps with guidance."""
    reference.expect(key, sampled(model(**WORDS, **settings), pixels)[::2, ::2])


def test_large_inputs_are_restored_in_pieces(reference, folder):
    pixels = image(2, 48, 64)
    upscaler = open_upscaler("invsr", scale=4, diffusion=WORDS | {"chop": 32, "chop_overlap": 16})
    [restored] = upscaler.upscale([Job(pixels, "", pixels.shape[:2], (0, 0, 0))])
    reference.expect("chopped", torch.from_numpy(restored[::2, ::2] / 255), close=0.5 / 255 + 1e-4)


def test_the_weights_of_pieces_are_largest_in_their_middle_and_even():
    weights = falling_off(4, 5)
    assert torch.allclose(weights[:, 1], weights[:, 3])
    assert int(weights[:, 2].argmax()) == 1  # of four: the second, for the published weights lack their first value
    assert int(weights[1].argmax()) == 2


def test_it_has_five_steps_at_most_and_a_licence_for_research(folder):
    with pytest.raises(UserError, match="InvSR has 1 to 5 steps, but steps=6 was requested"):
        open_upscaler("invsr", scale=4, diffusion={"steps": 6})
    assert license_of("invsr") == "S-Lab-1.0 AND Stability-AI-NC-Research-Community"


def test_another_file_in_the_predictors_place_is_refused(copied):
    torch.save({"conv.weight": torch.zeros(3)}, copied / "noise_predictor_sd_turbo_v5.pth")
    with pytest.raises(UserError, match=r"does not hold InvSR's noise predictor: there is no tensor"):
        open_upscaler("invsr", scale=4, diffusion=WORDS)
