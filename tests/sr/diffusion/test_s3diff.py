"""S3Diff against numbers recorded from its published implementation (ArcticHare105/S3Diff, commit 6a2e0a4), run by peft with its
own modulated layers on the same small weights, inputs and noise in float32."""

import pytest
import torch
from small_diffusion import image

from fgr.errors import UserError
from fgr.sr import license_of, open_upscaler

MODELS, RECORDED = ("s3diff",), "s3diff_reference.npz"
WORDS = {"prompt": "cat", "negative_prompt": "blur"}


def test_the_degradation_estimator(reference, model):
    images = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        reference.expect("degradation", model(**WORDS).networks["estimator"](images))


@pytest.mark.parametrize(("key", "pixels", "settings", "every"), [
    ("plain", image(0, 32, 32), {"color_fix": "none"}, 4),
    ("square", image(0, 32, 32), {}, 2),
    ("tiled", image(1, 30, 44), {"latent_tile": 16, "latent_overlap": 8}, 2),
])  # fmt: skip
def test_whole_outputs(reference, model, sampled, key, pixels, settings, every):
    """From an image to an image: changes by degradation, guidance, colours; sides that are no multiples of 64 in latent tiles."""
    reference.expect(key, sampled(model(**WORDS, **settings), pixels)[::every, ::every])


def test_it_has_one_step_and_a_licence_for_research(folder):
    with pytest.raises(UserError, match="S3Diff has one step, but steps=2 was requested"):
        open_upscaler("s3diff", scale=4, diffusion={"steps": 2})
    assert license_of("s3diff") == "Apache-2.0 AND Stability-AI-NC-Research-Community"


def test_files_that_are_not_its_own_or_not_whole_are_refused(copied):
    content = torch.load(copied / "s3diff.pkl", weights_only=True)
    gone = next(name for name in content["state_dict_unet"] if ".lora_B." in name)
    unet = {name: tensor for name, tensor in content["state_dict_unet"].items() if name != gone}
    for spoiled, said in (
        ({"state_dict_unet": unet}, "does not hold S3Diff's adapters"),
        (
            content | {"state_dict_unet": unet},
            "does not fit SD-Turbo: .*lora_A.* has no layer of that size there",
        ),
        (content | {"rank_unet": 4}, "holds changes of rank 4 and matrices of another size"),
    ):
        torch.save(spoiled, copied / "s3diff.pkl")
        with pytest.raises(UserError, match=f"s3diff.pkl {said}"):
            open_upscaler("s3diff", scale=4, diffusion=WORDS)
    torch.save(content, copied / "s3diff.pkl")
    torch.save({"conv.weight": torch.zeros(3)}, copied / "de_net.pth")
    with pytest.raises(UserError, match=r"does not hold S3Diff's degradation estimator: there is no tensor conv_first.0.bias"):
        open_upscaler("s3diff", scale=4, diffusion=WORDS)
