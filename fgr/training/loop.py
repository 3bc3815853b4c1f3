"""The loop over training steps: progress, regular checkpoints, and Ctrl-C that saves first."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import torch

from fgr.progress import Progress


def take_steps(
    step: Callable[[], bool], title: str, first: int, last: int, save: Callable[[], None], every: int, accelerator: Any
) -> None:
    """Call `step` for the steps after `first` up to `last`, until it returns False; `save` writes a checkpoint.

    Saved is every `every` steps and at the end. When a signal asks to stop, in any process: KeyboardInterrupt, after saving.
    """
    with Interrupts() as interrupts, Progress(title, last, "steps") as progress:
        progress.advance(first)
        for number in range(first + 1, last + 1):
            going_on = step()
            progress.advance()
            asked = torch.tensor(float(interrupts.asked), device=accelerator.device)
            stop = bool(accelerator.reduce(asked))
            if stop or not going_on or number == last or number % every == 0:
                save()
            if stop:
                raise KeyboardInterrupt
            if not going_on:
                return


class Interrupts:
    """Turns Ctrl-C and SIGTERM into a flag that a training loop reads between steps; a second Ctrl-C interrupts at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        os.write(2, b"fgr: saving; interrupt again to leave at once\n")
