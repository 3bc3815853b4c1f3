"""Which torch devices the workers of this machine run on."""

import os

from fgr.errors import UserError


def choose_devices(device: str, workers: int) -> list[str]:
    """One device name for each worker: `workers` of them, or (0) one for each CUDA device or CPU core.

    `device` is auto, cpu, mps, cuda (all of them by turns) or cuda:N. UserError for a device that is not there.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = device.partition(":")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        raise UserError(
            f"There is no device '{device}' here.",
            f"Choose --device from: {', '.join(name for name in present if present[name])}.",
        )
    if kind == "cpu":
        return ["cpu"] * (workers or cores())
    if kind == "cuda" and not number:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [names[i % len(names)] for i in range(workers or len(names))]
    return [device] * (workers or 1)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """`auto` resolved; UserError for a device that is not there."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"The device '{device}' is none of auto, cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA device here.", "Use --device cpu or auto.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
