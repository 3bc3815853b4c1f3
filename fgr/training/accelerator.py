"""The accelerate handle of a training run: device, precision, and trackers that are installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgr.devices import choose_device
from fgr.errors import UserError

PACKAGES = {"tensorboard": "tensorboardX"}  # basicsr brings tb-nightly, which accelerate does not take for tensorboard


def open_accelerator(precision: str, out: Path, device: str, trackers: Sequence[str], *handlers: Any) -> Any:
    """An `accelerate.Accelerator`, its trackers not yet started. UserError: one is not installed (accelerate drops it)."""
    import torch
    from accelerate import Accelerator, tracking

    installed = [str(name) for name in tracking.get_available_trackers()]
    for name in trackers:
        if name not in installed:
            package = PACKAGES.get(name, name)
            raise UserError(
                f"The tracker {name} is not installed.", f"Install it (pip install {package}), or drop it from `trackers`."
            )
    chosen = choose_device(device)
    if chosen.startswith("cuda:"):
        torch.cuda.set_device(chosen)  # which accelerate takes for `cuda`
    _forget_earlier_run()
    return Accelerator(
        mixed_precision=precision,
        cpu=chosen == "cpu",
        log_with=list(trackers) or None,
        project_dir=out / "logs",
        kwargs_handlers=list(handlers),
    )


def _forget_earlier_run() -> None:
    """Let this process train with another device or precision than before: accelerate keeps the first ones for all time.

    It has no public way; processes that are joined in a group stay so.
    """
    import torch
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())


def begin_trackers(accelerator: Any, project: str, trackers: Sequence[str]) -> None:
    """Start the trackers, if there are any. UserError if one of them cannot start: not logged in, say."""
    if not trackers:
        return
    try:
        accelerator.init_trackers(project)
    except Exception as error:  # every tracker has errors of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"The trackers ({', '.join(trackers)}) could not be started: {reason}",
            "Log in to them, set them to work offline, or leave `trackers` empty: metrics.jsonl is always written.",
        ) from None
