import os

import cv2
import pytest
import torch

from fgr.devices import available_devices, choose_device, choose_devices, cpu_threads, settled_precision
from fgr.errors import UserError


@pytest.fixture
def two_cuda_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_device_for_every_worker():
    assert choose_devices("cpu", 3) == ["cpu"] * 3
    assert choose_devices("cpu", 0) == ["cpu"] * len(os.sched_getaffinity(0))


def test_workers_share_the_cuda_devices_by_turns(two_cuda_devices):
    assert choose_devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert choose_devices("auto", 0) == ["cuda:0", "cuda:1"]
    assert choose_devices("cuda:1", 2) == ["cuda:1", "cuda:1"]


def test_auto_is_the_fastest_device(two_cuda_devices, monkeypatch):
    assert choose_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["mps", "cpu"]
    assert choose_device("auto") == "mps"


@pytest.mark.parametrize("name", ["tpu", "cuda:2", "gpu", "cpu:0"])
def test_a_device_that_is_absent_is_a_sentence(two_cuda_devices, name):
    with pytest.raises(UserError, match=f"(?s)'{name}' is not available on this machine.*auto, cuda, cuda:0, cuda:1"):
        choose_device(name)


@pytest.mark.parametrize(
    ("device", "gpu_has_bf16", "network_stands_it", "expected"),
    [("cuda", True, True, "bf16"), ("cuda", True, False, "tf32"), ("cuda", False, True, "tf32"), ("cpu", True, True, "fp32")],
)
def test_the_default_precision_is_what_gpu_and_network_stand(monkeypatch, device, gpu_has_bf16, network_stands_it, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bf16)
    device = torch.device(device)
    assert settled_precision("auto", device, lambda: network_stands_it) == expected
    assert settled_precision("fp16", device, lambda: network_stands_it) == "fp16"


def test_so_many_cpu_threads_only_inside_the_block():
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(3)
        cv2.setNumThreads(3)
        with cpu_threads(1):
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
