"""Some reward models' jobs done again in a folder of their own, and whether the same came of them, digit for digit."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file

from bench.claims import plan, pool
from bench.claims.protocol import Protocol
from fgr.errors import UserError
from fgr.training import directory as runs

RESULTS = ("rows.json", "judged.json", "ended.json")
CLOCKS = ("step_s", "wait_s")  # of a run's lines: they tell the time, not what was done


class Comparison(NamedTuple):
    """How many jobs were done again, how many files were held against each other, and which of these differ."""

    jobs: int
    files: int
    differing: list[str]


def repeat(protocol: Protocol, out: Path, again: Path, units: Sequence[str], device: str, workers: int) -> Comparison:
    """Do the jobs of the reward models `units` again in `again`, on the data of the plan's folder `out`.

    UserError for a unit that the tier does not have, and for jobs that are not done in `out` yet.
    """
    jobs = chosen(plan.jobs(protocol, _source(out)), units, [unit.name for unit in protocol.all_units()])
    missing = [job.name for job in jobs if not pool.is_done(out, job)]
    if missing:
        raise UserError(f"{out} does not have {missing[0]} yet, which is to be done again.", "Finish the plan first.")
    made = {job.name for job in jobs}
    again.mkdir(parents=True, exist_ok=True)
    for name in sorted({need for job in jobs for need in job.needs.values()} - made):
        if not (again / name).exists():
            (again / name).symlink_to(out / name, target_is_directory=True)
    pool.work_off(jobs, again, device, workers, {path.name for path in again.iterdir() if path.is_symlink()})
    return compared(out, again, [job.name for job in jobs])


def chosen(jobs: Sequence[plan.Job], units: Sequence[str], known: Sequence[str]) -> list[plan.Job]:
    """The jobs of these reward models. UserError for one that is not there."""
    for unit in units:
        if unit not in known:
            raise UserError(f"The plan has no reward model '{unit}'.", f"It has {', '.join(known)}.")
    return [job for job in jobs if any(job.name.endswith(f"-{unit}") for unit in units)]


def compared(out: Path, again: Path, names: Sequence[str]) -> Comparison:
    """Results, lines of training without their clock times, and weights of the jobs `names` in two folders."""
    pairs = [(f"{name}/{file}", out / name / file, again / name / file) for name in names for file in _files(out / name)]
    differing = [label for label, one, other in pairs if not other.is_file() or _content(one) != _content(other)]
    return Comparison(len(names), len(pairs), differing)


def _source(out: Path) -> str:
    mark = out / "photographs" / pool.MARK
    if not mark.is_file():
        raise UserError(f"{out} has no plan that was begun.", "Run it first: python -m bench.claims run PHOTOGRAPHS.")
    return str(json.loads(mark.read_text(encoding="utf-8"))["job"]["settings"]["source"])


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.name in (*RESULTS, "metrics.jsonl") or path.suffix == ".safetensors":
            yield str(path.relative_to(folder))


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return {name: (str(value.dtype), value.shape, value.numpy().tobytes()) for name, value in load_file(path).items()}
    if path.name == "metrics.jsonl":
        return [{name: value for name, value in line.items() if name not in CLOCKS} for line in runs.metrics(path.parent)]
    return json.loads(path.read_text(encoding="utf-8"))
