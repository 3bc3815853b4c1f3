"""How shards are spread over processes: each process builds its own ShardMaker and takes the next shard that is free."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from fgr.errors import UserError
from fgr.generate.shards import Shard, ShardMaker, Tick

MakerFactory = Callable[[str], ShardMaker]  # device → maker; picklable
POLL = 0.2  # seconds between looks at the workers' reports

_maker: ShardMaker | None = None
_reports: Any = None


def local(shards: Sequence[Shard], factory: MakerFactory, devices: Sequence[str], tick: Tick) -> None:
    """Make `shards` with one process a device (in this process if there is one device); each runs on one CPU thread.

    UserError if a worker is killed; an error or an interrupt stops the others, and no half-written file stays.
    """
    if len(devices) == 1 or len(shards) == 1:
        maker = factory(devices[0])
        for shard in shards:
            maker.make(shard, tick)
        return
    context = multiprocessing.get_context("spawn")
    free, reports = context.Queue(), context.Queue()
    for device in devices:
        free.put(device)
    pool = ProcessPoolExecutor(len(devices), context, _start, (factory, free, reports))
    try:
        _drain([pool.submit(_make, shard) for shard in shards], reports, tick)
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


def _start(factory: MakerFactory, free: Any, reports: Any) -> None:
    global _maker, _reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    _maker, _reports = factory(free.get()), reports


def _make(shard: Shard) -> None:
    assert _maker is not None
    _maker.make(shard, lambda count, drops: _reports.put((count, drops)))
