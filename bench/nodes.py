"""`fgr generate` on a Ray cluster of one node against two, each with half of this machine's cores.

    python -m bench.nodes [--samples 2000]

Both clusters are on this machine's loopback. Two runs of different length are made on each, and the time of the shorter one is
taken off: what is left is samples alone, without imports, plan and calibration. Nothing else should be at work meanwhile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.environment import describe

OVERRIDES = ("source.crop=256", "source.crops_per_photo=8", "map.calibration_pairs=2", "map.features=gradient", "shard_rows=10",
             "degradation=real-esrgan", "severity=[0, 1]")  # fmt: skip


def run(nodes: int, cores: int, samples: int, folder: Path) -> None:
    """In a process of its own: start a cluster of so many nodes of so many cores, and print seconds of samples alone."""
    from ray.cluster_utils import Cluster

    from fgr import recipe as recipes
    from fgr.generate.run import generate

    store: dict[str, Any] = {"num_cpus": cores, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=store)
    for _ in range(nodes - 1):
        cluster.add_node(**store)
    os.environ["RAY_ADDRESS"] = cluster.address
    times = []
    for number in (samples // 4, samples):
        recipe = recipes.load("demo", "generate", OVERRIDES, {"models": ["bicubic"], "samples": number})
        began = time.perf_counter()
        generate(recipe, folder / str(number), engine="ray", device="cpu")
        times.append(time.perf_counter() - began)
    cluster.shutdown()
    print(times[1] - times[0])


def seconds(nodes: int, cores: int, samples: int) -> float:
    """What `run` prints, with a home of its own for Ray's token."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray") as home:  # its sockets want short names
        (Path(home) / ".ray").mkdir()
        (Path(home) / ".ray" / "auth_token").write_text("0" * 64)
        own = {"HOME": home, "RAY_TMPDIR": home, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-m", "bench.nodes", "--run", str(nodes), str(cores), "--samples", str(samples)]
        environment = os.environ | own | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--run", nargs=2, type=int, metavar=("NODES", "CORES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        with tempfile.TemporaryDirectory() as folder:
            nodes, cores_each = given.run
            run(nodes, cores_each, given.samples, Path(folder))
        return
    from fgr.devices import cores

    each = max(1, cores() // 2)
    one, two = (seconds(nodes, each, given.samples) for nodes in (1, 2))
    print(describe("ray", "numpy", "opencv-python"), f"· load {os.getloadavg()[0]:.1f}")
    made = f"{given.samples - given.samples // 4} samples of 256×256, bicubic"
    print(f"{made}: one node of {each} cores {one:.1f} s, two of them {two:.1f} s: {one / two:.2f}×")


if __name__ == "__main__":
    main()
