"""Torch devices by name, shared by workers; precisions, and what results depend on."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from fgr import device_errors
from fgr.errors import UserError

PRECISIONS = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # name → what autocast computes in


def available_devices() -> list[str]:
    """The names of this machine's devices, the fastest kind first; `cuda` is the current CUDA device."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: `device_errors` says it in words
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_device(device: str) -> str:
    """`device` itself, or for auto the fastest one. UserError for a device that is not available."""
    available = available_devices()
    if device == "auto":
        if available[0] == "cpu":
            device_errors.say_that_the_gpu_is_idle()
        return available[0]
    if device not in available:
        reason = device_errors.why_no_cuda() if device.startswith("cuda") else ""
        raise UserError(
            f"The device '{device}' is not available on this machine{f': {reason}' if reason else ''}.",
            f"Choose one of: {', '.join(['auto', *available])}.",
        )
    return device


def choose_devices(device: str, workers: int) -> list[str]:
    """One device for each of `workers`, or (0) of as many workers as there are CUDA devices or CPU cores; cuda: all by turns."""
    chosen = choose_device(device)
    if chosen == "cpu":
        return ["cpu"] * (workers or cores())
    names = [name for name in available_devices() if name.startswith("cuda:")] if chosen == "cuda" else [chosen]
    return [names[i % len(names)] for i in range(workers or len(names))]


def one_by_one(device: str) -> bool:
    """Whether images run alone on a device: on the CPU their bytes then do not depend on their neighbours."""
    return device == "cpu"


def hardware(device: str) -> dict[str, Any]:
    """What a network's bits depend on beside its inputs: the GPU and the libraries that compute on it. Empty for the CPU."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return {
            "gpu": torch.cuda.get_device_name(device), "torch": str(torch.__version__), "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return {} if kind == "cpu" else {"gpu": kind, "torch": str(torch.__version__)}


def settled_precision(precision: str, device: Any, stands_bf16: Callable[[], bool]) -> str:
    """What the precision `auto` is on a torch device: on CUDA bf16 where GPU and network stand it, else tf32; elsewhere fp32."""
    import torch

    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) and stands_bf16() else "tf32"


@contextlib.contextmanager
def numerics(device: Any, precision: str) -> Iterator[None]:
    """Inference on a torch device in a precision of PRECISIONS; on CUDA the same bytes every time.

    fp32 is fp32 there; tf32 rounds the factors of products to ten bits; bf16 and fp16 are autocast.
    """
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            tf32 = precision == "tf32"
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32))
            stack.enter_context(_products("high" if tf32 else "highest"))
        if (half := PRECISIONS[precision]) != "float32":
            stack.enter_context(torch.autocast(device.type, getattr(torch, half)))
        yield


@contextlib.contextmanager
def _products(precision: str) -> Iterator[None]:
    """Products of float32 matrices in this precision inside, and as before afterwards."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """torch and OpenCV compute on so many CPU threads inside, and on as many as before afterwards.

    With one, results do not depend on how many cores a machine has or how many workers share it. It holds for the whole process:
    for other threads' work too, as long as it lasts.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
