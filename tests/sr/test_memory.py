"""How large an input the memory allows."""

import pytest
import torch

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
