"""What holds for every diffusion upscaler, on small random weights in the official layouts."""

import numpy as np
import pytest
import torch
from small_diffusion import SMALL, image

from fgr.errors import UserError
from fgr.sr import Job, NonFiniteOutput, open_upscaler
from fgr.sr.diffusion import MODELS
from fgr.sr.diffusion.diffbir import DiffBIR
from fgr.sr.diffusion.osediff import OSEDiff
from fgr.sr.diffusion.seesr import SeeSR

TILES = {"latent_tile": 16, "latent_overlap": 8}
KNOBS = {"steps": 2, "prompt": "", "negative_prompt": ""} | TILES


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def opened(name, tmp_path_factory):
    """Opens the model `name`."""
    folder = tmp_path_factory.mktemp("weights")
    SMALL[name](folder)
    torch.set_num_threads(1)
    knobs = KNOBS | ({"steps": 1} if name == "osediff" else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGR_WEIGHTS", str(folder))
        for kind in (DiffBIR, OSEDiff, SeeSR):
            patch.setattr(kind, "least", 128)  # the small networks need not see 512 pixels
        yield lambda seed=0, **settings: open_upscaler(name, scale=4, diffusion=knobs | {"seed": seed}, **settings)


def jobs(*images):
    return [Job(one, "", one.shape[:2], (0, 0, 0)) for one in images]


def test_an_images_noise_is_its_own_and_the_seeds(name, opened):
    first, second = image(0, 32, 32), image(1, 32, 32)
    upscaler = opened()
    [alone] = upscaler.upscale(jobs(first))
    assert np.array_equal(upscaler.upscale(jobs(second, first))[1], alone)
    upscaler.batch = 2  # as on a GPU: the noise is the same, sums may be added in another order
    difference = np.abs(upscaler.upscale(jobs(second, first))[1].astype(int) - alone)
    # ResShift's decoder quantises: of two code words all but equally near it may take the other
    assert (difference > 1).mean() <= (0.01 if name.startswith("resshift") else 0)
    assert not np.array_equal(opened(seed=1).upscale(jobs(first))[0], alone)


def test_a_decoder_that_overflows_in_half_precision_runs_again_in_float32_and_nan_is_no_image(name, opened, capfd):
    upscaler, seen = opened(precision="bf16"), []
    [right] = upscaler.upscale(jobs(image(0, 32, 32)))

    def overflow(module, inputs, output):  # what fp16 does to some images
        seen.append(output.dtype)
        return output * torch.inf if output.dtype == torch.bfloat16 else None

    upscaler.restorer.networks["vae"].decoder.conv_out.register_forward_hook(overflow)
    results = upscaler.upscale(jobs(image(0, 32, 32), image(0, 32, 32)))
    assert seen == [torch.bfloat16, torch.float32] * 2
    assert all(np.abs(result.astype(int) - right).mean() < 8 for result in results)
    assert capfd.readouterr().err.count("overflows in this precision; it runs again in fp32") == 1
    next(upscaler.restorer.networks["unet"].parameters()).data.fill_(torch.nan)
    with pytest.raises(NonFiniteOutput, match=f"{name} gave values that are not finite"):
        upscaler.upscale(jobs(image(0, 32, 32)))


def test_tiles(name, opened):
    """Encoder, UNet and decoder see a tile at a time."""
    side, seen = opened().restorer.smallest_tile, []
    upscaler = opened(tile=side, overlap=8)
    upscaler.restorer.networks["vae"].decoder.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[2:])))
    [result] = upscaler.upscale(jobs(image(0, side, side + 24)))
    assert result.shape == (4 * side, 4 * (side + 24), 3)
    assert set(seen) == {(4 * side, 4 * side)}
    assert len(seen) == 2
    assert upscaler.settings()["tile"] == side
    with pytest.raises(UserError, match=rf"tile of {side // 2} pixels is too small .*\n.*Set tile to {side} or more"):
        opened(tile=side // 2, overlap=8)
