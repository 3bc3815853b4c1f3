"""How large an input the memory allows."""

import numpy as np
import pytest
import torch

from fgr.errors import UserError
from fgr.sr import memory


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
