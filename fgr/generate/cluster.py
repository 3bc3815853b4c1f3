"""Shards on a Ray cluster: one actor a GPU or CPU slot, each with one shard at a time.

A worker that dies, alone or with its machine, loses the shard it had in hand and nothing else: that shard goes back to the
queue, and another worker is asked for. Slots that machines bring when they join are used; nothing but small messages goes over
Ray, so OUT must be a folder that all machines share.
"""

import contextlib
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from fgr.devices import cores
from fgr.errors import UserError, missing_extra
from fgr.generate.engines import MakerFactory
from fgr.generate.shards import Shard, ShardMaker, Tick

TRIES = 4  # workers that may be lost over one shard before the run stops
POLL = 1.0  # seconds between looks at how large the cluster is
PATIENCE = 30.0  # seconds without any worker before saying so
CARRIED = ("FGR_WEIGHTS", "HF_HOME", "HF_HUB_OFFLINE")  # environment variables that workers get from this process
LOST_EARLY = "before it had made a shard"
OBJECT_STORE = 100 * 2**20  # bytes for a local cluster: messages are small


class Cluster:
    """The engine `ray`: the cluster that RAY_ADDRESS names, or one of its own on this machine's loopback interface."""

    here = "cpu"

    def __init__(self, device: str, workers: int) -> None:
        self._asked, self._workers = device, workers
        self.processes = cores()
        self._device = "cpu"
        self._spare: Any = None  # a worker that is up and has nothing to do

    def __enter__(self) -> "Cluster":
        self._ray = _connected()
        try:
            self._device = self._expect_device()
        except BaseException:
            self._ray.shutdown()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ray.shutdown()

    def once(self, call: Callable[[str], None]) -> None:
        print("fgr: a worker of the Ray cluster prepares the run.", file=sys.stderr, flush=True)
        for _ in range(TRIES):
            worker = self.hire()
            if self.answer(worker.call.remote(call)):
                self._spare = worker
                return
            self.end(worker)
        raise _too_many(LOST_EARLY)

    def make(self, shards: Sequence[Shard], factory: MakerFactory, tick: Tick) -> None:
        """Make `shards`. UserError if one of them loses its worker too often."""
        crew = _Crew(self, factory, shards)
        try:
            crew.work(tick)
        finally:
            crew.dismiss()

    def slots(self) -> int:
        """Workers that the cluster has room for, or as many as the user asked for."""
        return self._workers or int(self._ray.cluster_resources().get("GPU" if self._device == "cuda" else "CPU", 0))

    def hire(self) -> Any:
        """A worker, an actor; a new one waits for a free slot by itself."""
        spare, self._spare = self._spare, None
        return spare or self._ray.remote(_Worker).options(**self._slot(), max_restarts=0).remote(self._device, _surroundings())

    def finished(self, running: Sequence[Any]) -> list[Any]:
        """Those of the answers under way that have come, or failed; waits for one a little while."""
        return self._ray.wait(list(running), timeout=POLL)[0] if running else []

    def answer(self, reference: Any) -> Any:
        """What a worker answered, or None if it was lost. Errors that its work raised are raised here."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError:
            return None

    def end(self, worker: Any) -> None:
        """End a worker, dead or alive."""
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(worker)

    def _slot(self) -> dict[str, int]:
        return {"num_cpus": 1, "num_gpus": int(self._device == "cuda")}

    def _expect_device(self) -> str:
        there = {"cpu": True, "cuda": self._ray.cluster_resources().get("GPU", 0) >= 1}
        wanted = ("cuda" if there["cuda"] else "cpu") if self._asked == "auto" else self._asked
        if not there.get(wanted, False):
            raise UserError(
                f"The Ray cluster gives out no device '{wanted}'.",
                f"Choose --device from: auto, {', '.join(name for name in there if there[name])}.",
            )
        return wanted


class _Crew:
    """The workers of one call: who does what, and what is still to do."""

    def __init__(self, cluster: Cluster, factory: MakerFactory, shards: Sequence[Shard]) -> None:
        self._cluster, self._factory = cluster, factory
        self._todo = deque(shards)
        self._running: dict[Any, tuple[Any, Shard | None]] = {}  # answer under way → worker, its shard (None: opening)
        self._lost: Counter[str] = Counter()  # workers lost, by shard
        self._waited = 0.0

    def work(self, tick: Tick) -> None:
        while self._todo or any(shard for _, shard in self._running.values()):
            self._fill()
            finished = self._cluster.finished(list(self._running))
            for reference in finished:
                worker, shard = self._running.pop(reference)
                answer = self._cluster.answer(reference)
                if answer is None:
                    self._lose(worker, shard)
                    continue
                if shard:
                    tick(*answer)
                else:
                    self._lost[""] = 0
                self._give(worker)
            self._be_patient(bool(finished))

    def dismiss(self) -> None:
        for worker, _ in self._running.values():
            self._cluster.end(worker)
        self._running.clear()

    def _fill(self) -> None:
        """Ask for as many workers as there are slots and work for."""
        busy = sum(shard is not None for _, shard in self._running.values())
        for _ in range(min(self._cluster.slots(), busy + len(self._todo)) - len(self._running)):
            worker = self._cluster.hire()
            self._running[worker.open.remote(self._factory)] = worker, None

    def _give(self, worker: Any) -> None:
        if self._todo:
            shard = self._todo.popleft()
            self._running[worker.make.remote(shard)] = worker, shard
        else:
            self._cluster.end(worker)

    def _lose(self, worker: Any, shard: Shard | None) -> None:
        self._cluster.end(worker)
        name = shard.name if shard else ""
        self._lost[name] += 1
        doing = f"at work on {name}" if shard else LOST_EARLY
        if self._lost[name] >= TRIES:
            raise _too_many(doing)
        print(f"fgr: a worker of the Ray cluster was lost {doing}; that is done anew.", file=sys.stderr, flush=True)
        if shard:
            self._todo.appendleft(shard)

    def _be_patient(self, something: bool) -> None:
        idle = not something and all(shard is None for _, shard in self._running.values())
        before, self._waited = self._waited, self._waited + POLL if idle else 0.0
        if before < PATIENCE <= self._waited:
            print("fgr: waiting for the Ray cluster to give out a slot.", file=sys.stderr, flush=True)


class _Worker:
    """What runs in an actor."""

    def __init__(self, device: str, surroundings: tuple[str, dict[str, str]]) -> None:
        _settle(surroundings)
        self._device = device
        self._maker: ShardMaker | None = None

    def call(self, call: Callable[[str], None]) -> bool:
        call(self._device)
        return True

    def open(self, factory: MakerFactory) -> bool:
        self._maker = factory(self._device)
        return True

    def make(self, shard: Shard) -> tuple[int, dict[str, int]]:
        """Make a shard; the number of its samples, made or dropped, and the drops by reason."""
        assert self._maker is not None
        drops: Counter[str] = Counter()
        self._maker.make([shard], lambda _, dropped: drops.update(dropped))
        return len(shard.candidates), dict(drops)


def _too_many(doing: str) -> UserError:
    return UserError(
        f"For the {TRIES}th time a worker of the Ray cluster was lost {doing}, perhaps because memory ran out.",
        "Run the same command again to go on from the last whole shard, with fewer --workers or on more memory.",
    )


def _surroundings() -> tuple[str, dict[str, str]]:
    """The folder that relative paths are meant from, and the variables that say where weights are."""
    return os.getcwd(), {name: os.environ[name] for name in CARRIED if name in os.environ}


def _settle(surroundings: tuple[str, dict[str, str]]) -> None:
    folder, variables = surroundings
    os.environ.update(variables)
    with contextlib.suppress(OSError):
        os.chdir(folder)


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
    talk: dict[str, Any] = {"log_to_driver": os.environ.get("FGR_DEBUG") == "1", "logging_level": "warning"}
    if address == "local":
        ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE, **talk)
        return ray
    try:
        _expect_listener(address)
        ray.init(address, **talk)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
        raise UserError(
            f"There is no Ray cluster to be had at RAY_ADDRESS={address} ({reason}).",
            "Start one with `ray start --head`, mend the address, or unset RAY_ADDRESS for a cluster of this machine alone.",
        ) from None
    return ray


def _expect_listener(address: str) -> None:
    """OSError if nothing listens there: Ray would end the process without a word to the user."""
    host, _, port = address.rpartition("//")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass
