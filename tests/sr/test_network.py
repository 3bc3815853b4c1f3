"""Networks at work: tiles, memory that runs out, batches, precisions, values that are not finite."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage import data

from fgr.errors import UserError
from fgr.sr import Job, NonFiniteOutput, memory, network, open_upscaler

PHOTO = data.astronaut()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def released(weights_folder, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(weights_folder))
    return open_upscaler


def compact(convs=3, features=8, scale=2, bias=0.0):
    """The state dict of an SRVGGNetCompact with `convs` convolutions: receptive field `convs` pixels to each side."""
    generator = torch.Generator().manual_seed(1)
    state, channels = {}, 3
    for i in range(convs):
        out = features if i < convs - 1 else 3 * scale**2
        state[f"body.{2 * i}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * 0.1
        state[f"body.{2 * i}.bias"] = torch.zeros(out)
        if i < convs - 1:
            state[f"body.{2 * i + 1}.weight"] = torch.full((features,), 0.2)
        channels = features
    state[f"body.{2 * convs - 2}.bias"] += bias
    return state


@pytest.fixture
def small(tmp_path):
    """Opens a small network with the settings given."""

    def open_small(device="cpu", tile=0, overlap=16, precision="fp32", batch=1, **weights):
        save_file(compact(**weights), tmp_path / "small.safetensors")
        return open_upscaler(
            f"spandrel:{tmp_path / 'small.safetensors'}",
            scale=2, device=device, tile=tile, overlap=overlap, precision=precision, batch=batch,
        )  # fmt: skip

    return open_small


def test_a_compiled_network_gives_the_same_image_and_says_so(small, monkeypatch, tmp_path):
    import torch._dynamo

    image = PHOTO[:40, :48]
    expected = small().upscale(jobs(image))
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


def jobs(*images):
    return [Job(image, "", image.shape[:2], (0, 0, len(image))) for image in images]


def limit_memory(upscaler, pixels):
    """Let the network fail, as a device does, on inputs of more than `pixels` pixels in all; returns the sizes tried."""
    tried = []

    def check(module, inputs):
        count, _, height, width = inputs[0].shape
        tried.append((count, height, width))
        if count * height * width > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    upscaler.descriptor.model.register_forward_pre_hook(check)
    return tried


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
def test_tiny_inputs(small, shape):
    image = PHOTO[: shape[0], : shape[1]]
    for settings in ({}, {"tile": 32}):
        [restored] = small(**settings).upscale(jobs(image))
        assert restored.shape == (2 * shape[0], 2 * shape[1], 3)


def test_the_model_is_in_evaluation_mode_and_channels_last(small):
    model = small().descriptor.model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.body[2].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("tile", [0, 32])
def test_an_image_has_the_same_bytes_alone_and_in_company(small, tile):
    images = [PHOTO[:48, :48], PHOTO[100:148, 100:148], PHOTO[:40, :56]]
    upscaler = small(batch=8, tile=tile)
    tried = limit_memory(upscaler, 10**9)
    together = upscaler.upscale(jobs(*images))
    assert {size[0] for size in tried} == {1}
    for image, restored in zip(images, together, strict=True):
        assert np.array_equal(small(tile=tile).upscale(jobs(image))[0], restored)


def test_batches_off_the_cpu_keep_order_and_content(small):
    images = [PHOTO[i : i + 40, i : i + 40] for i in range(5)] + [PHOTO[:40, :44]]
    upscaler = small()
    upscaler.fit.batch = 4
    tried = limit_memory(upscaler, 10**9)
    together = upscaler.upscale(jobs(*images))
    assert tried == [(4, 40, 40), (1, 40, 40), (1, 40, 44)]
    for image, restored in zip(images, together, strict=True):
        assert np.abs(restored.astype(int) - small().upscale(jobs(image))[0]).max() <= 1


def test_memory_that_runs_out_first_halves_the_batch(small):
    upscaler = small()
    upscaler.fit.batch = 4
    tried = limit_memory(upscaler, 2 * 64 * 64)
    images = [PHOTO[:64, :64]] * 4
    restored = upscaler.upscale(jobs(*images))
    assert tried == [(4, 64, 64), (2, 64, 64), (2, 64, 64)]
    assert upscaler.settings()["tile"] == 0
    assert len(restored) == 4


def test_memory_that_runs_out_then_halves_the_tile_and_remembers(small):
    upscaler = small()
    tried = limit_memory(upscaler, 70 * 70)
    image = PHOTO[:130, :200]
    [restored] = upscaler.upscale(jobs(image))
    assert tried[:3] == [(1, 130, 200), (1, 100, 100), (1, 50, 50)]
    assert set(tried[3:]) == {(1, 50, 50)}
    assert upscaler.settings() == {"tile": 50, "overlap": 16, "precision": "fp32"}
    [whole] = small().upscale(jobs(image))
    assert np.abs(restored.astype(int) - whole).max() <= 1  # three convolutions: the overlap covers what they see
    assert np.array_equal(small(tile=50).upscale(jobs(image))[0], restored)  # a replay with the recorded settings
    tried.clear()
    upscaler.upscale(jobs(image))
    assert set(tried) == {(1, 50, 50)}


def test_what_one_size_taught_does_not_touch_another(small):
    """Otherwise an image's bytes would depend on the images before it, and a resumed run would differ."""
    upscaler = small()
    limit_memory(upscaler, 70 * 70)
    upscaler.upscale(jobs(PHOTO[:130, :200]))
    upscaler.upscale(jobs(PHOTO[:60, :60]))
    assert upscaler.settings()["tile"] == 0


def test_memory_that_never_suffices_ends_in_a_sentence(small):
    upscaler = small()
    tried = limit_memory(upscaler, 10)
    with pytest.raises(UserError, match=r"does not have enough memory for spandrel:.*, even with tiles of 50 pixels"):
        upscaler.upscale(jobs(PHOTO[:200, :200]))
    assert tried == [(1, 200, 200), (1, 100, 100), (1, 50, 50)]


def test_other_errors_of_a_network_are_not_taken_for_memory(small):
    upscaler = small()

    def fail(module, inputs):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    upscaler.descriptor.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        upscaler.upscale(jobs(PHOTO[:40, :40]))


def test_a_real_allocation_failure_on_the_cpu_is_survived(tmp_path):
    """The process may use 70 MB more than it has: the whole image's activations need more, tiles do not."""
    save_file(compact(features=64, convs=4), tmp_path / "wide.safetensors")
    script = f"""
        import resource, numpy as np, torch
        from fgr.sr import Job, memory, open_upscaler
        torch.set_num_threads(1)
        memory.SHARE = 1e9  # the guard that looks ahead steps aside
        upscaler = open_upscaler("spandrel:{tmp_path / "wide.safetensors"}", scale=2)
        upscaler.upscale([Job(np.zeros((64, 64, 3), np.uint8), "", (0, 0), (0, 0, 0))])
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + 70 * 2**20,) * 2)
        [restored] = upscaler.upscale([Job(np.zeros((420, 420, 3), np.uint8), "", (0, 0), (0, 0, 0))])
        print(restored.shape, upscaler.settings()["tile"])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    shape, _, tile = done.stdout.rpartition(" ")
    assert shape == "(840, 840, 3)"
    assert int(tile) in (210, 105)


def test_the_cpus_memory_is_counted_before_it_runs_out(small, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda: 2 * 240 * 10_000)  # room for 10,000 pixels: see test_memory
    upscaler = small()
    tried = limit_memory(upscaler, 10**9)
    upscaler.upscale(jobs(PHOTO[:100, :100]))
    assert tried == [(1, 100, 100)]
    assert upscaler.settings()["tile"] == 0
    upscaler.upscale(jobs(PHOTO[:100, :101]))
    assert upscaler.settings()["tile"] == 50
    monkeypatch.setattr(memory, "total_bytes", lambda: 1000)
    with pytest.raises(UserError, match="cpu does not have enough memory"):
        small().upscale(jobs(PHOTO[:100, :100]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("tile", [0, 32])
def test_values_that_are_not_finite(small, value, tile):
    upscaler = small(bias=value, tile=tile)
    with pytest.raises(NonFiniteOutput):
        upscaler.upscale(jobs(PHOTO[:48, :48]))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_are_near_and_named(small, precision):
    image = PHOTO[:48, :48]
    [full] = small().upscale(jobs(image))
    upscaler = small(precision=precision)
    [low] = upscaler.upscale(jobs(image))
    assert upscaler.settings()["precision"] == precision
    assert 30 < psnr(low, full) < 90


def test_a_network_says_how_far_a_precision_takes_its_output(small):
    upscaler = small(precision="auto")
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
def test_settings_that_cannot_work(small, settings, says):
    with pytest.raises(UserError) as raised:
        small(**settings)
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
