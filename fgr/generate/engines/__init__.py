"""How shards are spread over workers: what every engine does, and the engines by name.

Each worker builds its own ShardMaker and takes the next shard that is free, so what is made does not depend on the engine.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

from fgr.generate.engines.local import Local
from fgr.generate.engines.ray import RayCluster
from fgr.generate.maker import ShardMaker
from fgr.generate.shards import Shard, Tick


class Engine(Protocol):
    """Workers, here or elsewhere; a context manager that ends them."""

    device: str  # of this process
    processes: int  # that this machine has to spare for what needs no device

    def __enter__(self) -> "Engine": ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def call(self, task: Callable[[str], None]) -> None:
        """Call `task`, picklable, once, with a worker's device, where that device is."""

    def make(self, shards: Sequence[Shard], factory: Callable[[str], ShardMaker], tick: Tick) -> None:
        """Make all of `shards` with what `factory`, picklable, gives for a worker's device.

        An error or an interrupt stops the workers, and no half-written file counts.
        """


ENGINES: dict[str, Callable[[str, int], Engine]] = {"local": Local, "ray": RayCluster}  # name → engine of (device, workers)
