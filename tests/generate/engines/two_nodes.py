"""A two-node Ray cluster, run as a program of its own by test_ray.py: two_nodes.py OUT FLAGS OVERRIDE…

One run is left alone and goes into OUT/whole, through the command line. In the other, OUT/killed, a worker of the first node ends
itself and then the second node is killed, each while it has a shard in hand. Says who had which, and what listened where.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster as Nodes

from fgr import recipe as recipes
from fgr.cli import app
from fgr.generate import run
from fgr.generate.factory import MakerFactory

QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


class Doomed(MakerFactory):
    """Makers whose first shard ends badly: on the first node the process ends, on the second nothing happens until a kill."""

    def __init__(self, recipe, out, flags):
        super().__init__(recipe, out)
        self.flags = flags

    def __reduce__(self):
        return Doomed, (self.recipe, self.workspace.out, self.flags)

    def __call__(self, device):
        maker, flags, node = super().__call__(device), self.flags, os.environ["NODE"]

        class Maker:
            def make(self, shards, tick):
                [shard] = shards
                if node == "second":
                    (flags / "second").write_text(shard.name)
                    time.sleep(300)
                while not (flags / "second").exists():
                    time.sleep(0.05)
                if not (flags / "first").exists():
                    (flags / "first").write_text(shard.name)
                    os._exit(1)
                maker.make([shard], tick)

        return Maker()


def listeners():
    """Addresses on which a TCP socket of this network listens, as hexadecimal digits."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A"}


def kill_when_both_had_a_shard(nodes, second, flags):
    while not (flags / "second").exists() or not (flags / "first").exists():
        time.sleep(0.05)
    nodes.remove_node(second, allow_graceful=False)
    print("killed the second node", flush=True)


def main(out, flags, *overrides):
    store = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    nodes = Nodes(initialize_head=True, head_node_args={**store, "env_vars": {"NODE": "first"}, "_system_config": QUICK})
    second = nodes.add_node(**store, env_vars={"NODE": "second"})
    os.environ["RAY_ADDRESS"] = nodes.address
    arguments = ["generate", "demo", *overrides, "--models", "realesr-animevideov3,bicubic", "--limit", "20", "--device", "cpu"]
    app([*arguments, "--out", str(out / "whole"), "--engine", "ray"], standalone_mode=False)
    recipe = recipes.load("demo", "generate", overrides, {"models": ["realesr-animevideov3", "bicubic"], "samples": 20})
    run.MakerFactory = lambda recipe, out: Doomed(recipe, out, flags)
    threading.Thread(target=kill_when_both_had_a_shard, args=(nodes, second, flags), daemon=True).start()
    assert run.generate(recipe, out / "killed", engine="ray", device="cpu")
    names = [name for _, name in socket.if_nameindex()]
    print(f"interfaces {' '.join(names)}; listeners {' '.join(sorted(listeners()))}", flush=True)
    nodes.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
