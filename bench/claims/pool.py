"""Works jobs off in a few processes of one thread each; a job's folder is its mark: there whole, or not at all."""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.claims.plan import Job
from fgr import atomic
from fgr.errors import UserError
from fgr.recipe import differences

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
MARK = "job.json"


def work_off(jobs: Sequence[Job], out: Path, device: str, workers: int, there: Collection[str] = ()) -> None:
    """Do what of `jobs` is not done in `out`, each as soon as its needs are there and in the order given;
    the folders `there` are.

    UserError of a job, after the others that run have ended; other settings than those of a folder that is there are refused.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = {job.name for job in jobs if is_done(out, job)}
    done = finished | set(there)
    waiting = [job for job in jobs if job.name not in finished]
    if not waiting:
        return
    os.environ.update(dict.fromkeys(THREADS, "1"), HF_DATASETS_CACHE=str(out / ".cache"), HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    began, running = time.monotonic(), dict[Future[float], Job]()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_single) as pool:
        while waiting or running:
            for job in [job for job in waiting if done >= set(job.needs.values())][: workers - len(running)]:
                waiting.remove(job)
                running[pool.submit(do, job, out, device)] = job
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    took = future.result()
                except BaseException:
                    waiting = []
                    print(f"claims: {job.name} ended early", file=sys.stderr)
                    raise
                done.add(job.name)
                finished.add(job.name)
                spent = (time.monotonic() - began) / 60
                print(f"{len(finished)}/{len(jobs)} {job.name} {took:.0f} s · {spent:.1f} min", file=sys.stderr, flush=True)


def is_done(out: Path, job: Job) -> bool:
    """Whether the job's folder is there. UserError if it is of other settings."""
    mark = out / job.name / MARK
    if not mark.is_file():
        return False
    other = differences(json.loads(mark.read_text())["job"], json.loads(json.dumps(asdict(job))))
    if other:
        listed = "\n".join(f"  {line}" for line in other[:10])
        raise UserError(f"{mark.parent} was made by another protocol:\n{listed}", "Name another OUT.")
    return True


def do(job: Job, out: Path, device: str) -> float:
    """Do a job in OUT/.work and move its folder to where it belongs; seconds of processor time."""
    from bench.claims.jobs import JOBS

    work, began, used = out / ".work" / job.name, time.monotonic(), time.process_time()
    work.mkdir(parents=True, exist_ok=True)
    needs = {name: out / folder for name, folder in job.needs.items()}
    with open(out / ".work" / f"{job.name}.log", "a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        JOBS[job.kind](work, needs, device, **job.settings)
    took = {"seconds": round(time.monotonic() - began, 1), "processor": round(time.process_time() - used, 1)}
    atomic.write_text(work / MARK, json.dumps({"job": asdict(job), **took}, indent=1) + "\n")
    shutil.rmtree(out / job.name, ignore_errors=True)
    os.replace(work, out / job.name)
    return took["seconds"]


def spent(out: Path, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Number, seconds and processor seconds of the finished jobs by kind."""
    found: dict[str, dict[str, Any]] = {}
    for job in jobs:
        mark = out / job.name / MARK
        if mark.is_file():
            took, sums = json.loads(mark.read_text()), found.setdefault(job.kind, {"jobs": 0, "seconds": 0.0, "processor": 0.0})
            sums["jobs"] += 1
            for name in ("seconds", "processor"):
                sums[name] += took[name]
    return found


def _single() -> None:
    """One thread a worker: two would fight for the cores, and sums would come out in another order."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    hook: Any = _channels_side_by_side  # torch's annotation says that hooks return nothing
    torch.nn.modules.module.register_module_forward_pre_hook(hook)


def _channels_side_by_side(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Images for a pretrained encoder in torch's `channels_last`, by which small batches take a third less time on a CPU."""
    import torch

    from fgr.reward.encoder import TimmEncoder

    if not isinstance(module, TimmEncoder):
        return None
    return tuple(one.contiguous(memory_format=torch.channels_last) for one in inputs)
