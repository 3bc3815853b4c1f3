"""Work that is done beside other work, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(pool: Executor | None, work: Callable[[T], R], items: Iterable[T], depth: int) -> Iterator[R]:
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


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` consecutive items; the last may be shorter."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
