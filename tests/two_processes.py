"""Two processes on the CPU that train as one, run as a program of its own by test_two_processes.py: two_processes.py JOBS.

JOBS is a JSON list of {kind, recipe, overrides, sources, out}. Everything is imported once, then both processes are forked.
"""

import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from fgr import recipe
from fgr.reward.run import train_reward_model
from fgr.rlhf.run import tune

RUNS = {"reward": train_reward_model, "rlhf": tune}


def work(job):
    chosen = recipe.load(job["recipe"], job["kind"], job["overrides"])
    RUNS[job["kind"]](chosen, *job["sources"], Path(job["out"]), "cpu")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


def main(jobs):
    ports, children = free_ports(len(jobs)), []  # a run's processes part at its end
    for rank in ("0", "1"):
        if (child := os.fork()) == 0:
            os.environ.update({"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"})
            for job, port in zip(jobs, ports, strict=True):
                os.environ["MASTER_PORT"] = port
                work(job)
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    return max(os.waitpid(child, 0)[1] for child in children)


if __name__ == "__main__":
    sys.exit(bool(main(json.loads(sys.argv[1]))))
