"""From numbers to verdicts by the protocol's rules. Pure: what figures.py found and the thresholds in, verdicts out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.claims import statistics
from bench.claims.protocol import Claim1Limits, Claim2Limits, Claim3Limits, Thresholds

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """Something that had to hold, in words, what was found, and whether it does."""

    text: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """confirmed, refuted or inconclusive; why, in a sentence; the effect with its interval; the conditions of `confirmed`."""

    verdict: str
    why: str
    effect: Mapping[str, Any]
    conditions: Sequence[Condition]


Rule = Callable[[Numbers, Any, bool], Verdict]  # figures, the claim's own limits, whether its p survives


def decide(family: Numbers, limits: Thresholds) -> dict[str, Verdict]:
    """The verdict on each claim, by the numbers of one family of reward models."""
    rules: dict[str, tuple[Rule, Any]] = {
        "claim1": (claim1, limits.claim1),
        "claim2": (claim2, limits.claim2),
        "claim3": (claim3, limits.claim3),
    }
    effects = {name: TESTED[name](family[name]) if family[name] else asdict(statistics.NONE) for name in rules}
    ps = statistics.holm({name: effect["p"] for name, effect in effects.items()})
    found = {
        name: rule(family[name], own, ps[name] < limits.alpha) if family[name] else Verdict("inconclusive", "", effects[name], ())
        for name, (rule, own) in rules.items()
    }
    short = {name: _too_few(family, name, limits) for name in found}
    return {
        name: Verdict("inconclusive", short[name], one.effect, one.conditions) if short[name] else one
        for name, one in found.items()
    }


def least_gain(found: Numbers) -> tuple[str, Mapping[str, Any]]:
    """Class and baseline over which the gain is least, with the largest p of all."""
    effects = {f"{name} ({kind})": effect for kind, gains in found["gains"].items() for name, effect in gains.items()}
    worst = min(effects, key=lambda name: effects[name]["value"])
    ps = [effect["p"] for effect in effects.values()]
    return worst, dict(effects[worst]) | {"p": math.nan if any(map(math.isnan, ps)) else max(ps)}


def claim1(found: Numbers, limits: Claim1Limits, survives: bool) -> Verdict:
    """Localisation on the held-out engine against every baseline, by both positive classes."""
    where, least = least_gain(found)
    effects = [effect for gains in found["gains"].values() for effect in gains.values()]
    over = min(found["ap"][kind]["RM_N"] / found["prevalence"][kind] for kind in found["prevalence"])
    conditions = [
        Condition(f"every gain in average precision ≥ {limits.gain:g}, intervals above 0",
                  f"least over {where}: {_interval(least)}",
                  all(effect["value"] >= limits.gain and effect["low"] > 0 for effect in effects)),
        _holm(least, survives),
        Condition(f"mean map of sham rows < {limits.sham:g}", f"{found['sham']:.3f}", found["sham"] < limits.sham),
    ]  # fmt: skip
    if not over >= limits.ap_over_prevalence:
        return Verdict(
            "inconclusive", f"The instrument fails: the map's precision is {over:.2f} times chance.", least, conditions
        )
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"The least gain is {_interval(least)}, over {where}.", least, conditions)
    if any(effect["high"] < limits.no_gain for effect in effects):
        return Verdict("refuted", f"The gain over {where} is {_interval(least)}.", least, conditions)
    return Verdict("inconclusive", _missing(conditions), least, conditions)


def claim2(found: Numbers, limits: Claim2Limits, survives: bool) -> Verdict:
    """Instability of direct use over that of the curriculum, and the controls'."""
    ratios, final, broken = found["ratios"], found["final_difference"], found["broken"]
    direct, controls = ratios["A1"], [arm for arm in ("A3", "A5") if arm in ratios]
    conditions = [
        Condition(f"direct : CCL ≥ {limits.ratio:g}, interval above 1", _interval(direct),
                  direct["value"] >= limits.ratio and direct["low"] > 1),
        _holm(direct, survives),
        Condition(f"CCL ends no lower (interval above {limits.final:g})", _interval(final), final["low"] > limits.final),
        Condition("CCL breaks in no more reward models", f"{len(broken['A2'])} against {len(broken['A1'])}",
                  len(broken["A2"]) <= len(broken["A1"])),
        *(Condition(f"{arm} does not match CCL (interval above 1)", _interval(ratios[arm]), ratios[arm]["low"] > 1)
          for arm in controls),
        Condition("both controls were run", ", ".join(controls) or "none", len(controls) == 2),
    ]  # fmt: skip
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"Direct use swings {_interval(direct)} times as much as CCL.", direct, conditions)
    if found["breaks_more"] < 0.05:
        return Verdict("refuted", "Tuning with the curriculum breaks more often than direct tuning.", direct, conditions)
    if direct["low"] <= 1:
        if found["power"] >= limits.power:
            why = f"Direct use is not less steady than CCL; a ratio of {limits.ratio:g} had a power of {found['power']:.2f}."
            return Verdict("refuted", why, direct, conditions)
        return Verdict("inconclusive", f"The power for {limits.ratio:g} is only {found['power']:.2f}.", direct, conditions)
    matching = [arm for arm in controls if ratios[arm]["value"] <= 1]
    if matching:
        return Verdict("refuted", f"{' and '.join(matching)} as steady as CCL: its order is not the cause.", direct, conditions)
    return Verdict("inconclusive", _missing(conditions), direct, conditions)


def claim3(found: Numbers, limits: Claim3Limits, survives: bool) -> Verdict:
    """Hacking indices of the global score and of the curriculum at one distance, and whether the curriculum helped."""
    arms, difference, worth = found["arms"], found["difference"], found["worth"]
    index = {arm: arms[arm]["index"] for arm in ("A0", "A2")}
    conditions = [
        Condition(f"the global score is hacked (H surely above {limits.hacked:g})", _interval(index["A0"]),
                  index["A0"]["low"] > limits.hacked),
        Condition(f"the fine-grained reward is not (H surely below {limits.hacked:g})", _interval(index["A2"]),
                  index["A2"]["high"] < limits.hacked),
        Condition(f"the indices differ by ≥ {limits.difference:g}, interval above 0", _interval(difference),
                  difference["value"] >= limits.difference and difference["low"] > 0),
        _holm(difference, survives),
        Condition("with CCL full-reference figures close more than with fidelity alone (interval above 0)", _interval(worth),
                  worth["low"] > 0),
    ]  # fmt: skip
    failed = _instrument(found, limits)
    if failed:
        return Verdict("inconclusive", f"The instrument fails: {failed}.", difference, conditions)
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"The hacking index differs by {_interval(difference)}.", difference, conditions)
    against = {
        "The fine-grained reward is hacked": index["A2"]["low"] > limits.hacked,
        "The global score is not hacked": index["A0"]["high"] < limits.hacked,
        "The fine-grained reward is hacked more than the global score": difference["high"] < 0,
    }
    if any(against.values()):
        return Verdict("refuted", "; ".join(text for text, holds in against.items() if holds) + ".", difference, conditions)
    return Verdict("inconclusive", _missing(conditions), difference, conditions)


def _instrument(found: Numbers, limits: Claim3Limits) -> str:
    if not found["distance"] >= limits.distance:
        return f"the networks moved {found['distance']:.2f} steps of 8 bits"
    weak = [arm for arm in ("A0", "A2") if not found["arms"][arm]["own"]["value"] >= limits.rise]
    return f"{' and '.join(weak)} did not close {limits.rise:g} of the gap of the reward trained on" if weak else ""


def _too_few(family: Numbers, claim: str, limits: Thresholds) -> str:
    """What a claim has fewer of than a verdict needs: reward models in which everything was measured, and photographs."""
    if not family[claim]:
        return "Not measured yet."
    units = family[claim]["whole"]
    photographs = family["claim1" if claim == "claim1" else "claim3"]["photographs"]
    short = {f"{units} reward models": units < limits.units, f"{photographs} test photographs": photographs < limits.photographs}
    named = [text for text, fails in short.items() if fails]
    return f"Fewer than the protocol asks for: {' and '.join(named)}. Effects and intervals alone." if named else ""


TESTED: dict[str, Callable[[Numbers], Mapping[str, Any]]] = {  # the effect that each claim stands or falls by
    "claim1": lambda found: least_gain(found)[1], "claim2": lambda found: found["ratios"]["A1"],
    "claim3": lambda found: found["difference"],
}  # fmt: skip


def _holm(effect: Mapping[str, Any], survives: bool) -> Condition:
    said = "not measured" if math.isnan(effect["p"]) else f"p = {effect['p']:.2g}"
    return Condition("p survives Holm's correction over the three claims", said, survives)


def _missing(conditions: Sequence[Condition]) -> str:
    return "Not met: " + "; ".join(condition.text for condition in conditions if not condition.holds) + "."


def _interval(found: Mapping[str, Any]) -> str:
    if any(found[name] is None or math.isnan(found[name]) for name in ("value", "low", "high")):
        return "not measured"
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
