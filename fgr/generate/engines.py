"""How shards are spread over workers: an engine's interface, and processes of this machine.

Each worker builds its own ShardMaker and takes the next shard that is free, so what is made does not depend on the engine.
"""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Protocol

from fgr.devices import choose_devices
from fgr.errors import UserError
from fgr.generate.shards import Shard, ShardMaker, Tick

MakerFactory = Callable[[str], ShardMaker]  # device → maker; picklable
POLL = 0.2  # seconds between looks at the workers' reports

_todo: Any = None  # a worker's queues
_reports: Any = None


class Engine(Protocol):
    """Workers, here or elsewhere; a context manager that ends them."""

    here: str  # device of this process
    processes: int  # that this machine has to spare for what needs no device

    def __enter__(self) -> "Engine": ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def once(self, call: Callable[[str], None]) -> None:
        """Call `call`, picklable, with a worker's device, where such a device is."""

    def make(self, shards: Sequence[Shard], factory: MakerFactory, tick: Tick) -> None:
        """Make all of `shards`; an error or an interrupt stops the workers, and no half-written file counts."""


class Local:
    """One process a device (this process if there is one device); each runs on one CPU thread."""

    def __init__(self, device: str, workers: int) -> None:
        self.devices = choose_devices(device, workers)
        self.here, self.processes = self.devices[0], len(self.devices)

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def once(self, call: Callable[[str], None]) -> None:
        call(self.here)

    def make(self, shards: Sequence[Shard], factory: MakerFactory, tick: Tick) -> None:
        """Make `shards`. UserError if a worker is killed."""
        if not shards:
            return
        if len(self.devices) == 1 or len(shards) == 1:
            factory(self.here).make(shards, tick)
            return
        context = multiprocessing.get_context("spawn")
        todo, reports = context.Queue(), context.Queue()
        for one in [*shards, *[None] * len(self.devices)]:
            todo.put(one)
        pool = ProcessPoolExecutor(len(self.devices), context, _start, (todo, reports))
        try:
            _drain([pool.submit(_work, factory, device) for device in self.devices], reports, tick)
        except BrokenProcessPool:
            raise UserError(
                "A worker process was killed, perhaps because memory ran out.",
                "Run the same command again to go on from the last whole shard, with fewer --workers if it happens again.",
            ) from None
        finally:
            _stop(pool)


def _drain(futures: Sequence[Future[None]], reports: Any, tick: Tick) -> None:
    waiting = set(futures)
    while waiting:
        try:
            tick(*reports.get(timeout=POLL))
        except queue.Empty:
            finished = {future for future in waiting if future.done()}
            for future in finished:
                future.result()
            waiting -= finished


def _stop(pool: ProcessPoolExecutor) -> None:
    workers = list((pool._processes or {}).values())  # the executor has no public way to end a worker at once
    unfinished = any(worker.is_alive() for worker in workers)
    pool.shutdown(wait=False, cancel_futures=True)
    if unfinished:
        for worker in workers:
            worker.terminate()
    for worker in workers:
        worker.join()


def _start(todo: Any, reports: Any) -> None:
    global _todo, _reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    _todo, _reports = todo, reports


def _work(factory: MakerFactory, device: str) -> None:
    """Take shards until there are none left: the next one when the maker has room for it."""
    factory(device).make(iter(_todo.get, None), lambda count, drops: _reports.put((count, drops)))
