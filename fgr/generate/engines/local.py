"""The engine `local`: processes of this machine, one a device; this process if there is one."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from fgr.device_errors import is_lost
from fgr.devices import choose_devices, cpu_threads
from fgr.errors import UserError, notice
from fgr.generate.maker import ShardMaker
from fgr.generate.rows import worker_killed
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
            done = _pass_on([pool.submit(_work, factory, device) for device in self.devices], reports, tick)
        except BrokenProcessPool:
            raise worker_killed() from None
        finally:
            _stop(pool)
        finished = {name for one in done for name in one.finished}
        left = [shard for shard in shards if shard.name not in finished]
        if left:
            self._make_again(left, sorted({one.device for one in done if one.lost}), factory, tick)

    def _make_again(
        self, left: Sequence[Shard], lost: Sequence[str], factory: Callable[[str], ShardMaker], tick: Tick
    ) -> None:  # fmt: skip
        """The shards that workers had in hand when they lost their device are made by the others. UserError if none is left."""
        self.devices = [device for device in self.devices if device not in lost]
        if not self.devices:
            raise UserError(
                f"CUDA failed on every device ({', '.join(lost)}).",
                "What is finished is kept: run the same command again to go on. Should it fail again, look for the reason in the "
                "system's log (dmesg, NVRM: Xid).",
            )
        notice(f"CUDA failed on {', '.join(lost)}; other devices make again what was not finished there.")
        self.device = self.devices[0]
        self.make(left, factory, tick)


@dataclass(frozen=True, slots=True)
class _Done:
    """What a worker did: the names of the shards that it finished, and whether it lost its device."""

    device: str
    finished: list[str]
    lost: bool = False


def _pass_on(futures: Sequence[Future[_Done]], reports: Any, tick: Tick) -> list[_Done]:
    """Give the workers' reports to `tick` until all of them are done: what they did. The first error is raised."""
    waiting, done = set(futures), []
    while waiting:
        try:
            tick(*reports.get(timeout=POLL))
        except queue.Empty:
            ended = {future for future in waiting if future.done()}
            done += [future.result() for future in ended]
            waiting -= ended
    return done


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


def _work(factory: Callable[[str], ShardMaker], device: str) -> _Done:
    """Take shards until there are none left: the next one when the maker has room for it.

    Where the device is lost, the samples of shards that are not finished are taken back from the reports.
    """
    taken: list[Shard] = []
    reported = 0

    def shards() -> Iterator[Shard]:
        for shard in iter(_todo.get, None):
            taken.append(shard)
            yield shard

    def report(count: int, drops: dict[str, int]) -> None:
        nonlocal reported
        reported += count
        _reports.put((count, drops))

    maker = None
    try:
        with cpu_threads(1):
            maker = factory(device)
            maker.make(shards(), report)
    except RuntimeError as error:
        if not is_lost(error):
            raise
        finished = [shard for shard in taken if maker is not None and maker.workspace.is_done(shard)]
        _reports.put((sum(len(shard.candidates) for shard in finished) - reported, {}))
        return _Done(device, [shard.name for shard in finished], lost=True)
    return _Done(device, [shard.name for shard in taken])
