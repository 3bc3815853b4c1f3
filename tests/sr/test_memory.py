"""How large an input the memory allows, and what a network does where it runs out: smaller batches, then smaller tiles."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_network import PHOTO, compact, jobs

from fgr.errors import UserError
from fgr.sr import memory

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_largest_layer_and_the_output_are_counted(monkeypatch):
    """A pixel shuffle takes 12·4 bytes a pixel in and out, 144 with the slack; the output of scale 2 takes 3·2²·8 = 96."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.PixelShuffle(2))
    monkeypatch.setattr(memory, "total_bytes", lambda: 2 * 240 * 10_000)
    assert memory.pixels_that_fit(model, 2) == 10_000
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_what_cannot_be_counted_is_not_guessed(monkeypatch):
    model = torch.nn.Conv2d(3, 12, 3)
    monkeypatch.setattr(memory, "total_bytes", lambda: None)
    assert memory.pixels_that_fit(model, 2) is None
    monkeypatch.setattr(memory, "total_bytes", lambda: 10**9)
    assert memory.pixels_that_fit(torch.nn.Linear(7, 7), 2) is None


def test_this_machines_memory_is_known():
    assert memory.total_bytes() > 2**28


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 40000000000 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("expected scalar type Half but found Float"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert memory.is_out_of_memory(error) is expected


@pytest.fixture
def on_cuda(monkeypatch):
    """Builds a MemoryFit as on a GPU with room for so many pixels: it, how it runs, the sizes its network saw, and probes."""
    seen = []

    def whole(images):
        seen.append(images.shape[:3])
        return images

    def build(room, **how):
        probe = []
        monkeypatch.setattr(
            memory, "cuda_room", lambda device, run, pixels: (probe.append(pixels), run(), seen.clear(), room)[-1]
        )
        settings = {"tile": 0, "overlap": 4, "batch": 8, "multiple": 4, "smallest": 16} | how
        fit = memory.MemoryFit("net", torch.device("cuda"), 1, **settings)
        return fit, lambda images, *seats: fit.run(images, lambda one: whole(one) / np.float32(255), whole, seats), seen, probe

    return build


def images(number, side=96):
    return [np.full((side, side, 3), i, np.uint8) for i in range(number)]


def test_the_batch_follows_from_a_probe_and_nothing_fails(on_cuda):
    fit, run, seen, probe = on_cuda(room=3 * 96 * 96)
    assert [int(one[0, 0, 0]) for one in run(images(5))] == list(range(5))
    assert seen == [(2, 96, 96)] * 2 + [(1, 96, 96)]
    run(images(2, 40))
    assert probe == [64 * 64]  # once, with a corner
    assert seen[3:] == [(2, 40, 40)]
    assert fit.made(1) == {"tile": 0, "batch": 2, "place": 1}


def test_what_is_too_large_for_the_probed_memory_runs_in_tiles_at_once(on_cuda):
    fit, run, seen, _ = on_cuda(room=50 * 50)
    run(images(1))
    assert set(seen) == {(1, 48, 48)}
    assert fit.made(0) == {"tile": 48, "batch": 1, "place": 0}
    with pytest.raises(UserError, match="cuda does not have enough memory for net"):
        on_cuda(room=10)[1](images(1))


def test_a_seat_is_taken_again_among_copies(on_cuda):
    fit, run, seen, _ = on_cuda(room=10**9)
    [one, other] = run(images(2), (3, 4), (1, 2))
    assert (int(one[0, 0, 0]), int(other[0, 0, 0])) == (0, 1)
    assert seen == [(4, 96, 96), (2, 96, 96)]
    assert [fit.made(i)["place"] for i in (0, 1)] == [3, 1]


def test_the_room_on_a_gpu_is_what_is_free_over_what_a_pixel_takes(monkeypatch):
    calls = {"memory_allocated": 100, "max_memory_allocated": 100 + 64 * 64 * 50, "mem_get_info": (10**6, 10**9)}
    for name, value in calls.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    ran = []
    assert memory.cuda_room(torch.device("cuda"), lambda: ran.append(1), 64 * 64) == int(memory.CUDA_SHARE * 10**6 / 50)
    assert ran == [1]


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


@pytest.mark.parametrize("tile", [0, 32])
def test_an_image_has_the_same_bytes_alone_and_in_company(small_network, tile):
    images = [PHOTO[:48, :48], PHOTO[100:148, 100:148], PHOTO[:40, :56]]
    upscaler = small_network(batch=8, tile=tile)
    tried = limit_memory(upscaler, 10**9)
    together = upscaler.upscale(jobs(*images))
    assert {size[0] for size in tried} == {1}
    for image, restored in zip(images, together, strict=True):
        assert np.array_equal(small_network(tile=tile).upscale(jobs(image))[0], restored)


def test_batches_off_the_cpu_keep_order_and_content(small_network):
    images = [PHOTO[i : i + 40, i : i + 40] for i in range(5)] + [PHOTO[:40, :44]]
    upscaler = small_network()
    upscaler.fit.batch = 4
    tried = limit_memory(upscaler, 10**9)
    together = upscaler.upscale(jobs(*images))
    assert tried == [(4, 40, 40), (1, 40, 40), (1, 40, 44)]
    for image, restored in zip(images, together, strict=True):
        assert np.abs(restored.astype(int) - small_network().upscale(jobs(image))[0]).max() <= 1


def test_memory_that_runs_out_first_halves_the_batch(small_network):
    upscaler = small_network()
    upscaler.fit.batch = 4
    tried = limit_memory(upscaler, 2 * 64 * 64)
    images = [PHOTO[:64, :64]] * 4
    restored = upscaler.upscale(jobs(*images))
    assert tried == [(4, 64, 64), (2, 64, 64), (2, 64, 64)]
    assert upscaler.settings()["tile"] == 0
    assert len(restored) == 4


def test_memory_that_runs_out_then_halves_the_tile_and_remembers(small_network):
    upscaler = small_network()
    tried = limit_memory(upscaler, 70 * 70)
    image = PHOTO[:130, :200]
    [restored] = upscaler.upscale(jobs(image))
    assert tried[:3] == [(1, 130, 200), (1, 100, 100), (1, 50, 50)]
    assert set(tried[3:]) == {(1, 50, 50)}
    assert upscaler.settings() == {"tile": 50, "overlap": 16, "precision": "fp32"}
    [whole] = small_network().upscale(jobs(image))
    assert np.abs(restored.astype(int) - whole).max() <= 1  # three convolutions: the overlap covers what they see
    assert np.array_equal(small_network(tile=50).upscale(jobs(image))[0], restored)  # a replay with the recorded settings
    tried.clear()
    upscaler.upscale(jobs(image))
    assert set(tried) == {(1, 50, 50)}


def test_what_one_size_taught_does_not_touch_another(small_network):
    """Otherwise an image's bytes would depend on the images before it, and a resumed run would differ."""
    upscaler = small_network()
    limit_memory(upscaler, 70 * 70)
    upscaler.upscale(jobs(PHOTO[:130, :200]))
    upscaler.upscale(jobs(PHOTO[:60, :60]))
    assert upscaler.settings()["tile"] == 0


def test_memory_that_never_suffices_ends_in_a_sentence(small_network):
    upscaler = small_network()
    tried = limit_memory(upscaler, 10)
    with pytest.raises(UserError, match=r"does not have enough memory for spandrel:.*, even with tiles of 50 pixels"):
        upscaler.upscale(jobs(PHOTO[:200, :200]))
    assert tried == [(1, 200, 200), (1, 100, 100), (1, 50, 50)]


def test_other_errors_of_a_network_are_not_taken_for_memory(small_network):
    upscaler = small_network()

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


def test_the_cpus_memory_is_counted_before_it_runs_out(small_network, monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda: 2 * 240 * 10_000)  # room for 10,000 pixels, as above
    upscaler = small_network()
    tried = limit_memory(upscaler, 10**9)
    upscaler.upscale(jobs(PHOTO[:100, :100]))
    assert tried == [(1, 100, 100)]
    assert upscaler.settings()["tile"] == 0
    upscaler.upscale(jobs(PHOTO[:100, :101]))
    assert upscaler.settings()["tile"] == 50
    monkeypatch.setattr(memory, "total_bytes", lambda: 1000)
    with pytest.raises(UserError, match="cpu does not have enough memory"):
        small_network().upscale(jobs(PHOTO[:100, :100]))
