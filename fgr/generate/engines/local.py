"""The engine `local`: processes of this machine, one a device; this process if there is one."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

from fgr.devices import choose_devices, one_cpu_thread
from fgr.errors import UserError
from fgr.generate.maker import ShardMaker
from fgr.generate.shards import Shard, Tick

POLL = 0.2  # seconds between looks at the workers' reports

_todo: Any = None  # a worker's queues
_reports: Any = None


class Local:
    """Workers of this machine; each computes on one CPU thread."""

    def __init__(self, device: str, workers: int) -> None:
        self.devices = choose_devices(device, workers)
        self.device, self.processes = self.devices[0], len(self.devices)

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def call(self, task: Callable[[str], None]) -> None:
        task(self.device)

    def make(self, shards: Sequence[Shard], factory: Callable[[str], ShardMaker], tick: Tick) -> None:
        """Make `shards`. UserError if a worker is killed."""
        if not shards:
            return
        if len(self.devices) == 1 or len(shards) == 1:
            factory(self.device).make(shards, tick)
            return
        context = multiprocessing.get_context("spawn")
        todo, reports = context.Queue(), context.Queue()
        for item in [*shards, *[None] * len(self.devices)]:
            todo.put(item)
        pool = ProcessPoolExecutor(len(self.devices), context, _start, (todo, reports))
        try:
            _pass_on([pool.submit(_work, factory, device) for device in self.devices], reports, tick)
        except BrokenProcessPool:
            raise UserError(
                "A worker process was killed, perhaps because memory ran out.",
                "Run the same command again to continue from the last complete shard, with fewer --workers if it happens again.",
            ) from None
        finally:
            _stop(pool)


def _pass_on(futures: Sequence[Future[None]], reports: Any, tick: Tick) -> None:
    """Give the workers' reports to `tick` until all of them are done; the first error is raised."""
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
    workers = list((pool._processes or {}).values())  # before Python 3.14 the executor has no public way to end a worker at once
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


def _work(factory: Callable[[str], ShardMaker], device: str) -> None:
    """Take shards until there are none left: the next one when the maker has room for it."""
    with one_cpu_thread():
        factory(device).make(iter(_todo.get, None), lambda count, drops: _reports.put((count, drops)))
