"""What holds for every diffusion upscaler, on small random weights in the official layouts."""

from functools import cache

import numpy as np
import pytest
import torch
from small_diffusion import image, show_less

from fgr.errors import UserError
from fgr.sr import Job, NonFiniteOutput, open_upscaler
from fgr.sr.diffusion import opening
from fgr.sr.diffusion.opening import MODELS
from fgr.sr.diffusion.stepwise import generators

SETTINGS = {"steps": 2, "prompt": "", "negative_prompt": "", "latent_tile": 16, "latent_overlap": 8}
ONE_STEP = {"steps": 1}
# The smallest tile of S3Diff would be 49 latent tiles of 16
OWN = {"osediff": ONE_STEP, "pisasr": ONE_STEP, "sinsr": ONE_STEP, "s3diff": ONE_STEP | {"latent_tile": 40}}


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def opened(name, weights_of):
    """Opens the model `name` as an upscaler of its own; those of the same settings share their networks."""
    torch.set_num_threads(1)
    settings = SETTINGS | OWN.get(name, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGR_WEIGHTS", str(weights_of(name)))
        patch.setattr(opening, "open_model", cache(opening.open_model))
        show_less(patch)
        yield lambda seed=0, **options: open_upscaler(name, scale=4, diffusion=settings | {"seed": seed}, **options)


def jobs(*images):
    return [Job(one, "", one.shape[:2], (0, 0, 0)) for one in images]


def test_an_images_noise_is_its_own_and_the_seeds(name, opened):
    first, second = image(0, 32, 32), image(1, 32, 32)
    upscaler = opened()
    [alone] = upscaler.upscale(jobs(first))
    assert np.array_equal(upscaler.upscale(jobs(second, first))[1], alone)
    upscaler.fit.batch = 2  # as on a GPU: the noise is the same, sums may be added in another order
    difference = np.abs(upscaler.upscale(jobs(second, first))[1].astype(int) - alone)
    # ResShift's decoder quantises: of two code words all but equally near it may take the other
    assert (difference > 1).mean() <= (0.01 if name.startswith("resshift") else 0)
    assert not np.array_equal(opened(seed=1).upscale(jobs(first))[0], alone)


def expect_near(name, exact, near):
    """ResShift's decoder quantises: rounding takes another of two code words, and random ones are far apart."""
    limit = 24 if name.startswith(("resshift", "sinsr")) else 8
    assert np.abs(exact.astype(int) - near).mean() < limit


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_half_precision_is_near_fp32_on_a_gpu_too(name, opened, device, precision):
    expect_near(name, *(opened(device=device, precision=one).upscale(jobs(image(0, 32, 32)))[0] for one in ("fp32", precision)))


def test_a_decoder_that_overflows_in_half_precision_runs_again_in_float32_and_nan_is_no_image(name, opened, capfd, monkeypatch):
    upscaler, seen = opened(precision="bf16"), []
    [exact], [right] = (one.upscale(jobs(image(0, 32, 32))) for one in (opened(), upscaler))
    expect_near(name, exact, right)

    def overflow(module, inputs, output):  # what fp16 does to some images
        seen.append(output.dtype)
        return output * torch.inf if output.dtype == torch.bfloat16 else None

    with upscaler.model.networks["vae"].decoder.conv_out.register_forward_hook(overflow):
        results = upscaler.upscale(jobs(image(0, 32, 32), image(0, 32, 32)))
    assert seen == [torch.bfloat16, torch.float32] * 2
    assert all(np.abs(result.astype(int) - right).mean() < 8 for result in results)
    assert capfd.readouterr().err.count("overflows in this precision; it runs again in fp32") == 1
    weight = next(upscaler.model.networks["unet"].parameters())
    monkeypatch.setattr(weight, "data", torch.full_like(weight, torch.nan))
    with pytest.raises(NonFiniteOutput, match=f"{name} gave values that are not finite"):
        upscaler.upscale(jobs(image(0, 32, 32)))


def test_tiles(name, opened):
    """Encoder, UNet and decoder see a tile at a time."""
    side, seen = opened().model.smallest_tile, []
    upscaler = opened(tile=side, overlap=8)
    with upscaler.model.networks["vae"].decoder.register_forward_hook(lambda *call: seen.append(tuple(call[2].shape[2:]))):
        [result] = upscaler.upscale(jobs(image(0, side, side + 24)))
    assert result.shape == (4 * side, 4 * (side + 24), 3)
    assert set(seen) == {(4 * side, 4 * side)}
    assert len(seen) == 2
    assert upscaler.settings()["tile"] == side
    with pytest.raises(UserError, match=rf"tile of {side // 2} pixels is too small .*\n.*Set tile to {side} or more"):
        opened(tile=side // 2, overlap=8)


def test_latents_of_an_output_have_the_shape_of_those_that_sampling_ends_with(name, opened):
    model, pixels = opened().model, image(0, 64, 64)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        start = model.begin(images, generators([pixels], 0))
        assert model.encode(torch.rand(1, 3, 256, 256)).shape == start.latents.shape


def test_memory_that_runs_out_gives_smaller_batches_then_tiles_then_a_sentence(weights_of, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(weights_of("ldm-sr")))
    upscaler = open_upscaler("ldm-sr", scale=4, diffusion={"steps": 2})
    upscaler.fit.batch = 2
    tried, limit = [], 64 * 64

    def check(module, inputs):
        count, _, height, width = inputs[0].shape
        tried.append((count, height, width))
        if count * height * width > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    upscaler.model.networks["unet"].register_forward_pre_hook(check)
    results = upscaler.upscale(jobs(image(0, 128, 64), image(1, 128, 64)))
    assert [result.shape for result in results] == [(512, 256, 3)] * 2
    assert list(dict.fromkeys(tried)) == [(2, 128, 64), (1, 128, 64), (1, 64, 64)]
    assert upscaler.settings()["tile"] == 64
    limit = 100
    with pytest.raises(UserError, match="cpu does not have enough memory for ldm-sr, even with tiles of 64 pixels"):
        upscaler.upscale(jobs(image(0, 128, 64)))
