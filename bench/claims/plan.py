"""The protocol as jobs: what is made of what, in an order in which the longest way comes first; and how long it takes. Pure."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.claims.protocol import Protocol, Trained, Unit


@dataclass(frozen=True)
class Job:
    """`name` is the folder it leaves, `kind` the function of jobs.JOBS, `needs` the folders it reads, by what they are to it."""

    name: str
    kind: str
    needs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def jobs(protocol: Protocol, source: str) -> list[Job]:
    """Every job of the plan on the photographs of the folder `source`."""
    found = [Job("photographs", "photographs", {}, {"source": source, "parts": protocol.photographs})]
    found += [_data(protocol, part) for part in ("rm", "judge", "rl", "test")]
    found += [_view(f"view-{fold}", "data-rm", fold, protocol.folds) for fold in range(protocol.folds)]
    found += [_view("view-judge", "data-judge", 0, 4), Job("inputs", "joined", {"train": "data-rl", "test": "data-test"})]
    units = list(protocol.all_units())
    found += [_trained(unit, protocol) for unit in units[:1]]
    found.append(Job("judge", "trained", {"data": "view-judge"}, _recipe(protocol.judge)))
    found += [_trained(unit, protocol) for unit in units[1:]]
    found += [_maps(unit, protocol) for unit in units]
    for unit in units:
        found += _of_unit(protocol, unit)
    return found


def estimate(planned: Sequence[Job], seconds: Mapping[str, float], workers: int) -> float:
    """Minutes that the jobs take on so many workers, if one of each kind takes so many seconds (others none)."""
    done: dict[str, float] = {}
    waiting, now = list(planned), 0.0
    running: list[tuple[float, str]] = []
    while waiting or running:
        ready = [job for job in waiting if done.keys() >= set(job.needs.values())][: workers - len(running)]
        for job in ready:
            waiting.remove(job)
            heapq.heappush(running, (now + seconds.get(job.kind, 0.0), job.name))
        now, name = heapq.heappop(running)
        done[name] = now
    return now / 60


def _recipe(trained: Trained, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"recipe": trained.recipe, "changes": trained.changes | dict(changes or {})}


def _data(protocol: Protocol, part: str) -> Job:
    """A dataset of one part of the photographs, all of it in the split `train`."""
    engines = protocol.engines
    models: dict[str, tuple[str, ...]] = {"rm": engines.train, "judge": engines.judge, "rl": (engines.tuned,)}
    models["test"] = (engines.held_out,)
    changes = protocol.dataset.parts[part] | {"models": list(models[part])}
    return Job(f"data-{part}", "generated", {"photographs": "photographs"}, {"part": part, **_recipe(protocol.dataset, changes)})


def _view(name: str, data: str, fold: int, folds: int) -> Job:
    return Job(name, "folded", {"data": data}, {"fold": fold, "folds": folds})


def _trained(unit: Unit, protocol: Protocol) -> Job:
    settings = _recipe(protocol.families[unit.family], {"seed": unit.seed})
    return Job(f"rm-{unit.name}", "trained", {"data": f"view-{unit.fold}"}, settings)


def _of_unit(protocol: Protocol, unit: Unit) -> list[Job]:
    """What is done with a reward model: stages in another order, tuning in every arm, the networks judged."""
    family, measures, reward = protocol.families[unit.family], protocol.measures, f"rm-{unit.name}"
    found = []
    if any(protocol.arms[arm].reward == "reversed" for arm in family.arms):
        found.append(Job(f"reversed-{unit.name}", "reversed_stages", {"reward": reward}))
    found += [_tuned(protocol, unit, arm) for arm in family.arms]
    needs = {"reward": reward, "judge": "judge", "data": "inputs"} | {arm: f"tune-{arm}-{unit.name}" for arm in family.arms}
    told = {"generator": protocol.engines.tuned, **_recipe(protocol.tuning, family.tuning), "crops": measures.crops}
    told |= {"crop": measures.crop, "figures": list(measures.figures), "planted": measures.planted}
    found.append(Job(f"judged-{unit.name}", "judged", needs, told | {"pictures": _pictures(unit, protocol)}))
    return found


def _maps(unit: Unit, protocol: Protocol) -> Job:
    shown = {"rows": protocol.measures.rows, "pictures": _pictures(unit, protocol)}
    return Job(f"maps-{unit.name}", "maps", {"reward": f"rm-{unit.name}", "data": "data-test"}, shown)


def _pictures(unit: Unit, protocol: Protocol) -> int:
    """Pictures are drawn with the first reward model alone."""
    return protocol.measures.pictures if unit == protocol.units("paper")[0] else 0


def _tuned(protocol: Protocol, unit: Unit, arm: str) -> Job:
    chosen, family = protocol.arms[arm], protocol.families[unit.family]
    reward = f"reversed-{unit.name}" if chosen.reward == "reversed" else f"rm-{unit.name}"
    needs = {"reward": reward, "data": "inputs"}
    if {"reward.units", "curriculum.stage"} & chosen.changes.keys():  # others log R_N in its z-units as the last stage's reward
        needs["yardstick"] = f"rm-{unit.name}"
    changes = family.tuning | chosen.changes | {"seed": 100 * unit.fold + unit.seed}
    settings = {"generator": protocol.engines.tuned, **_recipe(protocol.tuning, changes)}
    return Job(f"tune-{arm}-{unit.name}", "tuned", needs, settings)
