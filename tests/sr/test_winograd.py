"""Dense blocks by Winograd's method against direct convolution."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN
from torch.nn import functional

from fgr.sr import open_upscaler, winograd


def network(seed=0, blocks=1, **options):
    torch.manual_seed(seed)
    model = ESRGAN(num_filters=16, num_blocks=blocks, **options).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


def pair(**options):
    direct, fast = network(**options), network(**options)
    return direct, fast, winograd.speed_up(fast)


def test_one_convolution_by_hand():
    """Patch, kernel and result of the two transforms in plain arrays, for one channel: the sums of a 3×3 window of ones."""
    b, g, a = (np.array(side) for side in (winograd.INPUT, winograd.KERNEL, winograd.OUTPUT))
    patch, kernel = np.arange(36.0).reshape(6, 6), np.ones((3, 3))
    result = a @ ((b @ patch @ b.T) * (g @ kernel @ g.T)) @ a.T
    assert np.allclose(result, [[9 * (7 + x + 6 * y) for x in range(4)] for y in range(4)])


@pytest.mark.parametrize("threads", [1, 2])
def test_all_sizes_one_after_the_other_give_what_direct_convolution_gives(threads):
    torch.set_num_threads(threads)
    direct, fast, changed = pair(blocks=2)
    assert changed == 6
    generator = torch.Generator().manual_seed(3)
    with torch.inference_mode():
        for height, width in ((8, 12), (13, 7), (1, 5), (8, 12), (70, 66)):
            image = torch.rand(1, 3, height, width, generator=generator).to(memory_format=torch.channels_last)
            expected = direct(image)
            result = fast(image)
            assert result.shape == (1, 3, 4 * height, 4 * width)
            assert (result - expected).abs().max() < 1e-5 * expected.abs().max(), (height, width)
            assert torch.equal(fast(image), result), "what the last image left behind does not matter"
    torch.set_num_threads(1)


def test_large_images_and_batches_are_convolved_directly(monkeypatch):
    direct, fast, _ = pair()
    image = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert torch.equal(fast(image), direct(image))
        assert not torch.equal(fast(image[:1]), direct(image[:1]))
        monkeypatch.setattr(winograd, "LARGEST", 80)
        assert torch.equal(fast(image[:1]), direct(image[:1]))


def test_blocks_of_another_kind_stay_as_they_are():
    assert winograd.speed_up(network(plus=True)) == 0
    assert winograd.speed_up(network(act="relu")) == 0
    other = network()
    other.model[1].sub[0].RDB2.conv3[0].stride = (2, 2)
    assert winograd.speed_up(other) == 2


def test_the_transform_of_a_kernel_with_weights_in_their_new_order():
    model = network()
    before = model.model[1].sub[0].RDB1.conv1[0].weight.clone()
    winograd.speed_up(model)
    conv = model.model[1].sub[0].RDB1.direct.conv1[0]
    assert torch.equal(conv.weight, before)
    assert conv.weight.permute(2, 3, 1, 0).is_contiguous()
    x = torch.rand(1, 16, 6, 6)
    assert torch.allclose(conv(x), functional.conv2d(x, before, conv.bias, padding=1), atol=1e-6)


def patched(tmp_path, **options):
    """How many blocks of a small ESRGAN run by Winograd's method when it is opened so."""
    save_file(network().state_dict(), tmp_path / "a.safetensors")
    opened = open_upscaler(f"spandrel:{tmp_path / 'a.safetensors'}", scale=4, **options)
    return sum(type(module) is winograd.DenseBlock for module in opened.descriptor.model.modules())


@pytest.mark.parametrize(("options", "changed"), [({}, 3), ({"precision": "bf16"}, 0), ({"compile": True}, 0)])
def test_upscalers_on_the_cpu_in_float32_run_so(options, changed, tmp_path):
    assert patched(tmp_path, **options) == changed


def test_the_flag_turns_it_off(tmp_path, monkeypatch):
    monkeypatch.setenv(winograd.FLAG, "0")
    assert patched(tmp_path) == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 1}, {"scale": 2}, {"shuffle_factor": 2, "in_nc": 12}, {"upsampler": "pixel_shuffle"}],
    ids=["×4", "×1", "×2", "unshuffled", "pixelshuffle"],
)
def test_every_network_of_the_class_that_is_patched_computes_the_same(options):
    """ResidualDenseBlock_5C is of ESRGAN alone: each network that spandrel builds of it."""
    direct, fast, changed = pair(**options)
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = direct(image)
        assert (fast(image) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert changed == 3


def test_activations_before_convolutions_are_not_taken_for_those_after_them():
    first, last = network().model[1].sub[0].RDB1, network()
    last.model[1].sub[0].RDB1.conv2 = torch.nn.Sequential(*reversed(list(first.conv2.children())))
    assert winograd.speed_up(last) == 2
