"""The loop over training steps: batches ahead, progress, checkpoints, Ctrl-C that saves first."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType, TracebackType
from typing import Any, Generic, TypeVar

import torch

from fgr.progress import Progress, remark

AHEAD = 2  # batches that are prepared while a device computes

T = TypeVar("T")
R = TypeVar("R")


class Feed(Generic[T, R]):
    """The batches of `source`, each as `place` gives it, and the time that the loop waits for them.

    With `ahead`, so many are read and placed by a thread while the loop is at work on those before: for devices that compute
    without the processor.
    """

    def __init__(self, source: Iterable[T], place: Callable[[T], R], ahead: int = 0) -> None:
        self._source, self._place, self._ahead = iter(source), place, ahead
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._coming: deque[Future[R]] = deque()
        self._began, self._waited, self._told = time.perf_counter(), 0.0, 0.0

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        began = time.perf_counter()
        try:
            return self._next()
        finally:
            self._waited += time.perf_counter() - began

    def waited(self) -> float:
        """Seconds of waiting since this was last asked."""
        seconds, self._told = self._waited - self._told, self._waited
        return seconds

    @property
    def share(self) -> float:
        """The part of the time since the beginning that was waiting."""
        return self._waited / max(time.perf_counter() - self._began, 1e-9)

    def _next(self) -> R:
        if self._thread is None:
            return self._place(next(self._source))
        while len(self._coming) <= self._ahead:
            self._coming.append(self._thread.submit(self._read))
        return self._coming.popleft().result()

    def _read(self) -> R:
        return self._place(next(self._source))


def take_steps(
    step: Callable[[], bool], title: str, first: int, last: int, save: Callable[[], None], every: int, accelerator: Any,
    feed: Feed[Any, Any] | None = None,
) -> None:  # fmt: skip
    """Call `step` for the steps after `first` up to `last`, until it returns False; `save` writes a checkpoint.

    Saved is every `every` steps and at the end. The progress shows how much of the time went into waiting for `feed`. When a
    signal asks to stop, in any process: KeyboardInterrupt, after saving.
    """
    with Interrupts() as interrupts, Progress(title, last, "steps") as progress:
        progress.advance(first)
        for number in range(first + 1, last + 1):
            going_on = step()
            progress.advance()
            if feed is not None:
                remark(f"waiting for batches {feed.share:.0%}")
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
