"""Torch devices by name (auto, cpu, cuda, cuda:N, mps); how workers share a machine's devices."""

import contextlib
import os
from collections.abc import Iterator

from fgr.errors import UserError


def available_devices() -> list[str]:
    """The names of this machine's devices, the fastest kind first; `cuda` is the current CUDA device."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose_device(device: str) -> str:
    """`device` itself, or for auto the fastest one. UserError for a device that is not available."""
    available = available_devices()
    if device == "auto":
        return available[0]
    if device not in available:
        raise UserError(
            f"The device '{device}' is not available on this machine.", f"Choose one of: {', '.join(['auto', *available])}."
        )
    return device


def choose_devices(device: str, workers: int) -> list[str]:
    """One device for each of `workers`, or (0) of as many workers as there are CUDA devices or CPU cores; cuda: all by turns."""
    chosen = choose_device(device)
    if chosen == "cpu":
        return ["cpu"] * (workers or cores())
    names = [name for name in available_devices() if name.startswith("cuda:")] if chosen == "cuda" else [chosen]
    return [names[i % len(names)] for i in range(workers or len(names))]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_cpu_thread() -> Iterator[None]:
    """torch and OpenCV compute on one CPU thread inside, and on as many as before afterwards.

    Results then do not depend on how many cores a machine has or how many workers share it. It holds for the whole process:
    for other threads' work too, as long as it lasts.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
