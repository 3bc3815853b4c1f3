"""Networks at work: tiles, compilation, precisions, values that are not finite."""

import numpy as np
import pytest
import torch
from small_network import PHOTO, jobs

from fgr.errors import UserError
from fgr.sr import NonFiniteOutput, network, open_upscaler

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def released(weights_folder, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(weights_folder))
    return open_upscaler


def test_a_compiled_network_gives_the_same_image_and_says_so(small_network, monkeypatch, tmp_path):
    import torch._dynamo

    image = PHOTO[:40, :48]
    expected = small_network().upscale(jobs(image))
    monkeypatch.setattr(network, "COMPILER", "eager")
    torch._dynamo.reset()
    compiled = open_upscaler(f"spandrel:{tmp_path / 'small.safetensors'}", scale=2, compile=True)
    assert np.array_equal(compiled.upscale(jobs(image)), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert compiled.settings()["compile"] is True

    def broken(*_):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(network, "COMPILER", broken)
    torch._dynamo.reset()
    with pytest.raises(UserError, match=r"could not be compiled .*\nSet inference.compile=false"):
        open_upscaler(f"spandrel:{tmp_path / 'small.safetensors'}", scale=2, compile=True).upscale(jobs(image))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_an_overlap_over_the_receptive_field_gives_the_untiled_image(released):
    """realesr-animevideov3 has 18 convolutions: overlap − overlap//4 ≥ 36 from 48 on."""
    image = PHOTO[100:196, 150:342]
    [whole] = released("realesr-animevideov3", scale=4).upscale(jobs(image))
    [tiled] = released("realesr-animevideov3", scale=4, tile=96, overlap=48).upscale(jobs(image))
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    [seamed] = released("realesr-animevideov3", scale=4, tile=96, overlap=0).upscale(jobs(image))
    assert np.abs(seamed.astype(int) - whole).max() > 1


def test_a_deep_network_in_tiles_stays_near_its_untiled_output(released):
    image = PHOTO[60:156, 180:276]
    [whole] = released("realesrgan-anime", scale=4).upscale(jobs(image))
    [tiled] = released("realesrgan-anime", scale=4, tile=64, overlap=16).upscale(jobs(image))
    assert 48 < psnr(tiled, whole) < 70


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2)])
def test_tiny_inputs(small_network, shape):
    image = PHOTO[: shape[0], : shape[1]]
    for settings in ({}, {"tile": 32}):
        [restored] = small_network(**settings).upscale(jobs(image))
        assert restored.shape == (2 * shape[0], 2 * shape[1], 3)


def test_the_model_is_in_evaluation_mode_and_channels_last(small_network):
    model = small_network().descriptor.model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.body[2].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tile", [0, 32])
def test_values_that_are_not_finite(small_network, value, tile):
    upscaler = small_network(bias=value, tile=tile)
    with pytest.raises(NonFiniteOutput):
        upscaler.upscale(jobs(PHOTO[:48, :48]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_are_near_and_named(small_network, precision):
    image = PHOTO[:48, :48]
    [full] = small_network().upscale(jobs(image))
    upscaler = small_network(precision=precision)
    [low] = upscaler.upscale(jobs(image))
    assert upscaler.settings()["precision"] == precision
    assert 30 < psnr(low, full) < 90


def test_a_network_says_how_far_a_precision_takes_its_output(small_network):
    upscaler = small_network(precision="auto")
    assert upscaler.settings()["precision"] == "fp32"  # on the CPU
    assert 40 < upscaler.distance("bf16") < 80
    assert upscaler.distance("tf32") > 100  # which is fp32 there


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"precision": "int8"}, "There is no precision 'int8'"),
        ({"device": "cuda:99"}, "The device 'cuda:99' is not available"),
        ({"device": "gpu"}, "The device 'gpu' is not available"),
        ({"tile": 31}, "A tile of 31 pixels is too small"),
        ({"tile": 64, "overlap": 33}, "Set tile to 66 or more"),
    ],
)
def test_settings_that_cannot_work(small_network, settings, says):
    with pytest.raises(UserError) as raised:
        small_network(**settings)
    assert says in str(raised.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_repeats_its_bytes_and_agrees_with_the_cpu(released):
    image = PHOTO[60:124, 180:244]
    upscaler = released("realesrgan-anime", scale=4, device="cuda")
    [first] = upscaler.upscale(jobs(image))
    assert np.array_equal(upscaler.upscale(jobs(image))[0], first)
    [host] = released("realesrgan-anime", scale=4).upscale(jobs(image))
    assert np.abs(first.astype(int) - host).max() <= 2
