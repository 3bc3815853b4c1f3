"""The protocol as jobs: what is made of what, in an order in which the longest way comes first. Pure."""

from dataclasses import dataclass, field
from typing import Any

from bench.claims.protocol import Protocol

STAGED = "rm-1"  # the reward model that is tuned against


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
    found += _reward_models(protocol)
    found += [_data(protocol, part) for part in ("rl", "test")]
    found.append(Job("inputs", "view", {"train": "data-rl", "test": "data-test"}, {"validation": 0.0}))
    found.append(Job("rm-reversed", "reversed_stages", {"reward": STAGED}))
    for seed in protocol.tuning.seeds:
        found += [_tune(protocol, name, seed) for name in protocol.arms]
    found += _variants(protocol)
    found += _measures(protocol)
    return found


def _data(protocol: Protocol, part: str, name: str = "", changes: dict[str, Any] | None = None) -> Job:
    """A dataset of one part of the photographs, all of it in the split `train`."""
    engines = protocol.engines
    models: dict[str, tuple[str, ...]] = {"rm": engines.train, "gold": engines.gold, "rl": (engines.tuned,)}
    models["test"] = tuple(dict.fromkeys((*engines.train, engines.held_out)))
    told = protocol.dataset.changes | protocol.dataset.parts[part] | {"models": list(models[part])} | (changes or {})
    recipe = {"recipe": protocol.dataset.recipe, "changes": told}
    return Job(f"data-{name or part}", "generated", {"photographs": "photographs"}, {"part": part, **recipe})


def _trained(protocol: Protocol, name: str, data: str, changes: dict[str, Any]) -> Job:
    told = {"recipe": protocol.reward.recipe, "changes": protocol.reward.changes | changes}
    return Job(name, "trained", {"data": data}, told)


def _reward_models(protocol: Protocol) -> list[Job]:
    found = []
    for part in ("rm", "gold"):
        found += [_data(protocol, part), _view(protocol, part)]
    found += [_trained(protocol, f"rm-{number}", "view-rm", {"seed": seed}) for number, seed in _numbered(protocol)[:1]]
    found.append(_trained(protocol, "gold", "view-gold", protocol.reward.gold))
    found += [_trained(protocol, f"rm-{number}", "view-rm", {"seed": seed}) for number, seed in _numbered(protocol)[1:]]
    return found


def _view(protocol: Protocol, part: str) -> Job:
    return Job(f"view-{part}", "view", {"train": f"data-{part}"}, {"validation": protocol.validation})


def _numbered(protocol: Protocol) -> list[tuple[int, int]]:
    return list(enumerate(protocol.reward.seeds, start=1))


def _tune(protocol: Protocol, name: str, seed: int) -> Job:
    arm = protocol.arms[name]
    needs = {
        "reward": "rm-reversed" if arm.reward == "reversed" else STAGED,
        "yardstick": STAGED,
        "gold": "gold",
        "data": "inputs",
    }
    told = {"recipe": protocol.tuning.recipe, "changes": protocol.tuning.changes | arm.changes | {"seed": seed}}
    shown = protocol.measures.pictures if seed == protocol.tuning.seeds[0] else 0
    measured = {"crops": protocol.measures.crops, "crop": protocol.measures.crop, "pictures": shown}
    return Job(f"tune-{name}-{seed}", "tuned", needs, {"generator": protocol.engines.tuned, **told, **measured})


def _variants(protocol: Protocol) -> list[Job]:
    found = []
    for name, variant in protocol.reward.compared.items():
        data = "view-rm"
        if variant.data:
            data = f"view-rm-{name}"
            found += [_data(protocol, "rm", f"rm-{name}", variant.data), _view(protocol, f"rm-{name}")]
        changes = protocol.reward.steps | variant.changes | {"seed": protocol.reward.seeds[0]}
        found.append(_trained(protocol, f"variant-{name}", data, changes))
    return found


def _measures(protocol: Protocol) -> list[Job]:
    measures, test = protocol.measures, {"data": "data-test"}
    found = [_data(protocol, "test", "test-hard", {"masks.feather": [0, 0], "models": [protocol.engines.tuned]})]
    for number, _ in _numbered(protocol):
        settings = {"rows": measures.rows, "baselines": True, "pictures": measures.pictures if number == 1 else 0}
        found.append(Job(f"maps-rm-{number}", "maps", test | {"reward": f"rm-{number}"}, settings))
    for name in protocol.reward.compared:
        settings = {"rows": measures.rows, "baselines": False, "pictures": 0}
        found.append(Job(f"maps-{name}", "maps", test | {"reward": f"variant-{name}"}, settings))
        if name in ("concat", "hard"):
            needs = {"data": "data-test-hard", "reward": f"variant-{name}"}
            found.append(Job(f"maps-{name}-on-hard", "maps", needs, settings))
    yard = {"gold": "gold", "yardstick": STAGED, "data": "inputs"}
    told: dict[str, Any] = {
        "generator": protocol.engines.tuned,
        "recipe": protocol.tuning.recipe,
        "changes": protocol.tuning.changes,
    }
    told |= {"crops": measures.crops, "crop": measures.crop}
    area = list(protocol.thresholds.instruments.planted_area)
    found.append(Job("instruments", "instruments", yard, told | {"mixtures": list(measures.mixtures), "area": area}))
    found.append(Job("attack", "attacked", yard, told | {"attack": measures.attack.model_dump(mode="json")}))
    return found
