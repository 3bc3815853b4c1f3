"""Progress of long work: a live bar on a terminal, one line a minute elsewhere; always on stderr."""

import contextlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from fgr.errors import printable

EVERY = 60.0  # seconds between lines where stderr is not a terminal

_open: list["Progress"] = []  # the innermost last


def remark(text: str) -> None:
    """Say what is being done now, beside the innermost progress that is open: the first time at once, then as counts are.

    Where none is open, nothing is said.
    """
    if _open:
        _open[-1].remark(text)


class Progress:
    """Counts `unit`s up to `total` and drops by reason. Use as a context manager.

    Within another one, what it shows stands beside the other's counts.
    """

    def __init__(self, title: str, total: int, unit: str = "items", every: float = EVERY) -> None:
        self.title, self.total, self.unit, self.every = title, total, unit, every
        self.done, self.drops = 0, Counter[str]()
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._remark = ""
        self._outer: Progress | None = None

    def __enter__(self) -> "Progress":
        self._outer = _open[-1] if _open else None
        _open.append(self)
        if self._outer:
            return self
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(), TextColumn("so far,"),
                TimeRemainingColumn(), TextColumn("left"), console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task(printable(self.title), total=self.total, note="")
            self._bar.start()
        return self

    @property
    def columns(self) -> tuple[Any, ...]:
        """What the live bar shows, none elsewhere."""
        return self._bar.columns if self._bar else ()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _open.remove(self)
        if self._bar:
            self._bar.stop()
        elif kind is None and not self._outer:
            self._line()

    def advance(self, count: int = 1, drops: dict[str, int] | None = None) -> None:
        """Count work that is finished, and drops by reason."""
        self.done += count
        self.drops.update(drops or {})
        self._show()

    def remark(self, text: str) -> None:
        """Show what is being done now; on a terminal whenever it changes, elsewhere the first time and with the next lines."""
        first, self._remark = not self._remark, text
        self._show(at_once=first)

    def _show(self, at_once: bool = False) -> None:
        if self._outer:
            self._outer.remark(f"{self.title} {self.done}/{self.total}{f', {self._remark}' if self._remark else ''}")
        elif self._bar:
            self._bar.update(self._task, completed=self.done, total=self.total, note=printable(self._note()))
        elif at_once or time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._line()

    def _note(self) -> str:
        rate = self.done / max(time.monotonic() - self._start, 1e-9)
        drops = ", ".join(f"{reason} {count}" for reason, count in sorted(self.drops.items()))
        remark = f" · {self._remark}" if self._remark else ""
        return f"{rate:.2f} {self.unit}/s{remark}" + (f" · dropped: {drops}" if drops else "")

    def _line(self) -> None:
        elapsed = time.monotonic() - self._start
        left = elapsed / self.done * (self.total - self.done) if self.done else 0
        eta = f", {duration(left)} left" if self.done < self.total and self.done else ""
        line = f"{self.title}: {self.done}/{self.total} · {self._note()} · {duration(elapsed)}{eta}"
        print(printable(line), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time in the unit that it is read in: 42 s, 12 min, 3.5 h, 4 days."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


@contextlib.contextmanager
def without_loading_bars() -> Iterator[None]:
    """transformers shows no bar for the weights that it loads inside, and bars or none as before afterwards."""
    try:
        from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars  # type: ignore[attr-defined]
        from transformers.utils import logging
    except ModuleNotFoundError:
        yield
        return
    shown, downloads_hidden = logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a variable keeps the Hub's own bars off, as it did before
                logging.enable_progress_bar()
        if downloads_hidden:
            disable_progress_bars()
