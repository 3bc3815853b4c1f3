"""Two processes on the CPU that train as one, run as a program of its own by training/test_accelerator.py: two_processes.py JOBS.

JOBS is a JSON list of {kind, overrides, sources, out}. Everything is imported once, then both processes are forked.
"""

import json
import os
import socket
import sys
from pathlib import Path

from fgr import recipe
from fgr.reward.run import train_reward_model
from fgr.rlhf.run import tune


def work(job):
    out = Path(job["out"])
    if job["kind"] == "reward":
        train_reward_model(recipe.load("tiny", "reward", job["overrides"]), *job["sources"], out, "cpu")
    else:
        tune(recipe.load("demo", "rlhf", job["overrides"]), *job["sources"], out, "cpu")


def main(jobs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in ("0", "1"):
        if (child := os.fork()) == 0:
            own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update(own)
            for job in jobs:
                work(job)
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children)


if __name__ == "__main__":
    sys.exit(bool(main(json.loads(sys.argv[1]))))
