"""The engine `ray`: shards on a Ray cluster, one actor a GPU or CPU slot, one shard at a time.

A worker that dies, alone or with its machine, loses the shard it had in hand and nothing else: that shard goes back to the
queue, and another worker is started. Slots that machines bring when they join are used; nothing but small messages goes over
Ray, so OUT must be a folder that all machines share.
"""

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from fgr.device_errors import is_lost
from fgr.devices import cores, cpu_threads
from fgr.errors import UserError, missing_extra, notice
from fgr.generate.maker import ShardMaker
from fgr.generate.shards import Shard, Tick

TRIES = 4  # workers that may be lost over one shard before the run stops
POLL = 1.0  # seconds between looks at how large the cluster is
IDLE = 30.0  # seconds without any worker before saying so
CARRIED = ("FGR_WEIGHTS", "HF_HOME", "HF_HUB_OFFLINE")  # environment variables that workers get from this process
LOST_EARLY = "before it had begun a shard"
OBJECT_STORE = 100 * 2**20  # bytes for a local cluster: messages are small


class RayCluster:
    """The cluster that RAY_ADDRESS names, or one of its own on this machine's loopback interface."""

    device = "cpu"

    def __init__(self, device: str, workers: int) -> None:
        self._asked, self._workers = device, workers
        self.processes = cores()
        self._worker_device = "cpu"
        self._spare: Any = None  # a worker that is up and has nothing to do

    def __enter__(self) -> "RayCluster":
        self._ray = _connected()
        try:
            self._worker_device = worker_device(self._asked, self._ray.cluster_resources())
        except BaseException:
            self._ray.shutdown()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ray.shutdown()

    def call(self, task: Callable[[str], None]) -> None:
        notice("a worker of the Ray cluster prepares the run.")
        for _ in range(TRIES):
            worker = self.start_worker()
            if self.result(worker.call.remote(task)):
                self._spare = worker
                return
            self.kill(worker)
        raise _too_many(LOST_EARLY)

    def make(self, shards: Sequence[Shard], factory: Callable[[str], ShardMaker], tick: Tick) -> None:
        """Make `shards`. UserError if one of them loses its worker too often."""
        scheduler = Scheduler(self, factory, shards)
        try:
            scheduler.run(tick)
        finally:
            scheduler.stop()

    def slots(self) -> int:
        """Workers that the cluster has room for, or as many as the user asked for."""
        return self._workers or int(self._ray.cluster_resources().get("GPU" if self._worker_device == "cuda" else "CPU", 0))

    def start_worker(self) -> Any:
        """A worker, an actor; a new one waits for a free slot by itself."""
        spare, self._spare = self._spare, None
        slot = {"num_cpus": 1, "num_gpus": int(self._worker_device == "cuda")}
        actor = self._ray.remote(_Worker).options(**slot, max_restarts=0)
        return spare or actor.remote(self._worker_device, _environment())

    def finished(self, running: Sequence[Any]) -> list[Any]:
        """Those of the `running` calls that are done, or failed; waits for one a little while."""
        return self._ray.wait(list(running), timeout=POLL)[0] if running else []

    def result(self, reference: Any) -> Any:
        """What a worker's call returned, or None if the worker or its GPU was lost. Errors of its work are raised here."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if is_lost(error.cause):
                return None
            raise error.cause from None
        except self._ray.exceptions.RayError:
            return None

    def kill(self, worker: Any) -> None:
        """End a worker, dead or alive."""
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(worker)


class Scheduler:
    """Hands shards out to the workers of a cluster, starts as many as there is room for, and replaces those that are lost."""

    def __init__(self, cluster: RayCluster, factory: Callable[[str], ShardMaker], shards: Sequence[Shard]) -> None:
        self._cluster, self._factory = cluster, factory
        self._todo = deque(shards)
        self._running: dict[Any, tuple[Any, Shard | None]] = {}  # call under way → worker, its shard (None: opening models)
        self._lost: Counter[str] = Counter()  # workers lost, by shard
        self._idle = 0.0  # seconds

    def run(self, tick: Tick) -> None:
        """Make all shards. UserError if one of them loses its worker too often."""
        while self._todo or any(shard for _, shard in self._running.values()):
            self._start_workers()
            finished = self._cluster.finished(list(self._running))
            for reference in finished:
                worker, shard = self._running.pop(reference)
                counts = self._cluster.result(reference)
                if counts is None:
                    self._replace(worker, shard)
                    continue
                if shard:
                    tick(*counts)
                else:
                    self._lost[""] = 0
                self._hand_out(worker)
            self._tell_when_idle(bool(finished))

    def stop(self) -> None:
        """End the workers that are left."""
        for worker, _ in self._running.values():
            self._cluster.kill(worker)
        self._running.clear()

    def _start_workers(self) -> None:
        """As many as there are slots and work for."""
        busy = sum(shard is not None for _, shard in self._running.values())
        for _ in range(min(self._cluster.slots(), busy + len(self._todo)) - len(self._running)):
            worker = self._cluster.start_worker()
            self._running[worker.open.remote(self._factory)] = worker, None

    def _hand_out(self, worker: Any) -> None:
        if self._todo:
            shard = self._todo.popleft()
            self._running[worker.make.remote(shard)] = worker, shard
        else:
            self._cluster.kill(worker)

    def _replace(self, worker: Any, shard: Shard | None) -> None:
        self._cluster.kill(worker)
        name = shard.name if shard else ""
        self._lost[name] += 1
        doing = f"while it made {name}" if shard else LOST_EARLY
        if self._lost[name] >= TRIES:
            raise _too_many(doing)
        notice(f"a worker of the Ray cluster was lost {doing}; that is done again.")
        if shard:
            self._todo.appendleft(shard)

    def _tell_when_idle(self, something: bool) -> None:
        idle = not something and all(shard is None for _, shard in self._running.values())
        before, self._idle = self._idle, self._idle + POLL if idle else 0.0
        if before < IDLE <= self._idle:
            notice("waiting for a free slot on the Ray cluster.")


class _Worker:
    """What runs in an actor, on one CPU thread."""

    def __init__(self, device: str, environment: tuple[str, dict[str, str]]) -> None:
        folder, variables = environment
        os.environ.update(variables)
        with contextlib.suppress(OSError):
            os.chdir(folder)
        self._device = device
        self._maker: ShardMaker | None = None

    def call(self, task: Callable[[str], None]) -> bool:
        with cpu_threads(1):
            task(self._device)
        return True

    def open(self, factory: Callable[[str], ShardMaker]) -> bool:
        with cpu_threads(1):
            self._maker = factory(self._device)
        return True

    def make(self, shard: Shard) -> tuple[int, dict[str, int]]:
        """Make a shard; the number of its samples, written or dropped, and the drops by reason."""
        assert self._maker is not None
        drops: Counter[str] = Counter()
        with cpu_threads(1):
            self._maker.make([shard], lambda _, dropped: drops.update(dropped))
        return len(shard.candidates), dict(drops)


def worker_device(asked: str, resources: Mapping[str, float]) -> str:
    """The device of a worker, cpu or cuda, of a cluster with these resources. UserError if it has none of those asked for."""
    available = {"cpu": True, "cuda": resources.get("GPU", 0) >= 1}
    wanted = ("cuda" if available["cuda"] else "cpu") if asked == "auto" else asked
    if not available.get(wanted, False):
        raise UserError(
            f"The Ray cluster does not have the device '{wanted}'.",
            f"Choose --device from: auto, {', '.join(name for name in available if available[name])}.",
        )
    return wanted


def _too_many(doing: str) -> UserError:
    return UserError(
        f"For the {TRIES}th time a worker of the Ray cluster was lost {doing}, perhaps because memory ran out.",
        "Run the same command again to continue from the last complete shard, with fewer --workers or on more memory.",
    )


def _environment() -> tuple[str, dict[str, str]]:
    """The folder that relative paths start from, and the variables that say where weights are."""
    return os.getcwd(), {name: os.environ[name] for name in CARRIED if name in os.environ}


def _connected() -> Any:
    """The module ray, connected. UserError if it is not installed or there is no cluster at RAY_ADDRESS."""
    address = os.environ.get("RAY_ADDRESS", "local")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # a cluster of our own: loopback only
    try:
        import ray
    except ModuleNotFoundError:
        raise missing_extra("ray", "ray", "--engine ray") from None
    verbosity: dict[str, Any] = {"log_to_driver": os.environ.get("FGR_DEBUG") == "1", "logging_level": "warning"}
    if address == "local":
        ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE, **verbosity)
        return ray
    try:
        _expect_listener(address)
        ray.init(address, **verbosity)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        raise UserError(
            f"No Ray cluster could be reached at RAY_ADDRESS={address} ({reason}).",
            "Start one with `ray start --head`, correct the address, or unset RAY_ADDRESS for a cluster of this machine alone.",
        ) from None
    return ray


def _expect_listener(address: str) -> None:
    """OSError if nothing listens there: Ray would end the process without a word to the user."""
    host, _, port = address.rpartition("//")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass
