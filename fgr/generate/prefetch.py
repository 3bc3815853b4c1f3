"""Prefetching with threads: the next items are worked on while the reader is busy, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import groupby, islice
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(pool: Executor | None, work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
    """`work(item)` of each item, in order. With a pool up to `depth` of them are under way beside the reader; without, none.

    Items are taken in the reader's thread, so two of these in a row do the work in between there: while it goes on, what comes
    before and after it is done by the pool. The first error is raised in its turn, and what has not begun is dropped.
    """
    if pool is None:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def batches(items: Iterable[T], size: int, key: Callable[[T], object]) -> Iterator[list[T]]:
    """Lists of at most `size` consecutive items of one key."""
    for _, alike in groupby(items, key):
        while batch := list(islice(alike, size)):
            yield batch


@contextmanager
def thread_pool(threads: int) -> Iterator[Executor | None]:
    """A pool of so many threads; none for 0."""
    with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
        yield pool


class Once:
    """A value that is computed when it is first asked for, by whichever thread, and only once."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute, self._lock = compute, Lock()
        self._computed: list[Any] = []

    def __call__(self) -> Any:
        with self._lock:
            if not self._computed:
                self._computed.append(self._compute())
            return self._computed[0]
