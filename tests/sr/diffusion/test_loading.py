"""Networks out of files: what is damaged, not whole, or in the wrong place is refused by its place."""

import shutil

import pytest

from fgr.errors import UserError
from fgr.sr import open_upscaler

MODELS = ("sd-x4-upscaler",)


def spoiled(folder, what):
    """Damage the small upscaler."""
    unet = folder / "sd-x4-upscaler" / "unet"
    if what == "cut off":
        file = unet / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    elif what == "no architecture":
        (unet / "config.json").write_text("{}")
    elif what == "tensors missing":
        from safetensors.torch import load_file, save_file

        state = load_file(unet / "diffusion_pytorch_model.safetensors")
        del state["conv_out.weight"]
        save_file(state, unet / "diffusion_pytorch_model.safetensors")
    else:
        shutil.rmtree(unet)
        shutil.copytree(folder / "sd-x4-upscaler" / "vae", unet)


@pytest.mark.parametrize("what", ["cut off", "no architecture", "tensors missing", "another module"])
def test_weights_that_are_damaged_or_in_the_wrong_place_are_refused_by_place(copied, what):
    spoiled(copied, what)
    with pytest.raises(UserError, match=r"sd-x4-upscaler/unet (holds no UNet2DConditionModel|does not match its config.json)"):
        open_upscaler("sd-x4-upscaler", scale=4)
