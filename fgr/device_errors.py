"""What GPUs and drivers do to programs, in sentences: too old, lost, full, used by others."""

import warnings
from functools import cache
from pathlib import Path

from fgr.errors import UserError, notice

CARDS = Path("/proc/driver/nvidia/gpus")  # a folder for each NVIDIA GPU that the system's driver knows
LOST = (
    "unspecified launch failure", "illegal memory access", "misaligned address", "illegal instruction", "device-side assert",
    "uncorrectable ecc", "gpu is lost", "fallen off the bus", "busy or unavailable", "launch timed out", "hardware stack error",
    "cudnn_status_execution_failed", "cublas_status_execution_failed", "unknown error",
)  # fmt: skip
PARTS = ("cuda", "cudnn", "cublas")  # one of which every such error names
TOO_OLD_GPU = "no kernel image is available"
CROWDED = 0.5  # share of a GPU's memory below which what is free is worth a word
GIGA = 1e9


def is_lost(error: BaseException | None) -> bool:
    """Whether an error says that CUDA has failed and this process cannot use the device any more; another may."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in PARTS) and any(sign in text for sign in LOST)


def explained(error: Exception) -> UserError | None:
    """The sentence for an error of CUDA that nothing nearer to it has explained; None for other errors."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":
        return UserError(
            f"The GPU has too little memory for this: {_first(text)}.",
            "Close what else uses it (nvidia-smi lists it), or lower what is computed at once: data.batch or data.crop of a "
            "training, inference.tile or inference.batch of `fgr generate`; or choose --device cpu.",
        )
    if TOO_OLD_GPU in text:
        return UserError(
            "This build of torch has no code for this GPU, which is older, or newer, than it knows.",
            "Install a torch that supports it (pytorch.org lists them), or choose --device cpu.",
        )
    if is_lost(error):
        return UserError(
            f"The GPU failed in the middle of the work: {_first(text)}.",
            "What is finished is kept: run the same command again to go on. Should it fail again, look for the reason in the "
            "system's log (dmesg, NVRM: Xid), update the driver, or choose another --device.",
        )
    return None


@cache
def why_no_cuda() -> str:
    """Why torch cannot use a GPU that this machine has, as a clause; empty if it has none, or torch uses it."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available() or not any(CARDS.glob("*")):
            return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA"
    return _first(str(said[0].message)) if said else f"its driver does not work with CUDA {torch.version.cuda}"


@cache
def say_that_the_gpu_is_idle() -> None:
    """Say once that `auto` takes the CPU although there is a GPU, and why."""
    if reason := why_no_cuda():
        notice(f"this machine's GPU is not used: {reason}. The CPU works in its place.")


def say_what_others_use(device: str) -> None:
    """Say where little of a CUDA device's memory is free: what others do there takes time and memory from this run."""
    import torch

    if not device.startswith("cuda"):
        return
    free, total = torch.cuda.mem_get_info(device)
    if free < CROWDED * total:
        notice(
            f"{device}: {free / GIGA:.1f} of {total / GIGA:.1f} GB are free, other programs use the rest (nvidia-smi lists "
            "them); batches and tiles are made to fit."
        )


def _first(text: str) -> str:
    """The first sentence of a text."""
    return " ".join(text.split()).partition(". ")[0][:240].rstrip(".")
