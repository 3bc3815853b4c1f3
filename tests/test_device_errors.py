"""What GPUs do, in words."""

import pytest
import torch

from fgr import device_errors
from fgr.cli.shell import sentence
from fgr.devices import choose_device
from fgr.errors import UserError

OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver."
)


@pytest.fixture
def machine_with_a_gpu(monkeypatch, tmp_path):
    """A machine whose NVIDIA GPU torch cannot use, for the reason that it warns of."""
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(device_errors, "CARDS", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    def unavailable():
        import warnings

        warnings.warn(OLD_DRIVER, UserWarning, stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    device_errors.why_no_cuda.cache_clear()
    device_errors.say_that_the_gpu_is_idle.cache_clear()
    yield
    device_errors.why_no_cuda.cache_clear()
    device_errors.say_that_the_gpu_is_idle.cache_clear()


def test_a_driver_that_is_too_old_is_said(machine_with_a_gpu, capfd):
    with pytest.raises(UserError, match=r"'cuda:3' is not available on this machine: .*driver on your system is too old"):
        choose_device("cuda:3")
    assert choose_device("auto") == choose_device("auto") == "cpu"
    assert capfd.readouterr().err.count("this machine's GPU is not used: CUDA initialization") == 1


def test_a_torch_without_cuda_is_said(machine_with_a_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is a build without CUDA" in device_errors.why_no_cuda()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …"),
            "too little memory for this: CUDA out",
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with"), "The GPU failed in the middle"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "The GPU failed in the middle"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "has no code for this GPU"),
        (RuntimeError("an unknown error of something else"), "Unexpected RuntimeError"),
    ],
)
def test_errors_of_cuda_end_in_a_sentence(error, says):
    assert says in sentence(error)


def test_memory_that_others_use_is_said(monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3e9, 80e9))
    device_errors.say_what_others_use("cuda:1")
    device_errors.say_what_others_use("cpu")
    assert capfd.readouterr().err.count("cuda:1: 3.0 of 80.0 GB are free, other programs use the rest") == 1
