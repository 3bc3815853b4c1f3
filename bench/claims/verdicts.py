"""From numbers to verdicts by the protocol's rules. Pure: what figures.py found and the thresholds in, verdicts out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.claims.protocol import Claim1Limits, Claim2Limits, Claim3Limits, InstrumentLimits

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


def claim1(found: Numbers, limits: Claim1Limits, instruments: InstrumentLimits) -> Verdict:
    """Localisation on the held-out engine against the best baseline."""
    gain, pairs = found["gain"], found["pairs"]["difference"]["value"]
    over = found["ap"]["RM_N"] / found["prevalence"]
    conditions = [
        Condition(f"gain in average precision ≥ {limits.gain:g}, interval above 0", _interval(gain),
                  gain["value"] >= limits.gain and gain["low"] > 0),
        Condition(f"mean map of sham rows < {limits.sham:g}", f"{found['sham']:.3f}", found["sham"] < limits.sham),
        Condition(f"pairs of small area in order more often than RM_0's by ≥ {limits.pairs:g}",
                  _interval(found["pairs"]["difference"]), pairs >= limits.pairs),
    ]  # fmt: skip
    if not over >= instruments.ap_over_prevalence:
        return Verdict("inconclusive", f"The instrument fails: the map's precision is {over:.2f} times chance.", gain, conditions)
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"{_interval(gain)} over {found['best']}.", gain, conditions)
    if gain["high"] < limits.no_gain:
        return Verdict("refuted", f"The gain over {found['best']} ends below {limits.no_gain:g}.", gain, conditions)
    return Verdict("inconclusive", _missing(conditions), gain, conditions)


def claim2(found: Numbers, limits: Claim2Limits, instruments: InstrumentLimits) -> Verdict:
    """Instability of direct use over that of the curriculum, and the controls'."""
    ratios, final = found["ratios"], found["final_difference"]
    direct = ratios["A1"]
    conditions = [
        Condition(f"direct : CCL ≥ {limits.ratio:g}, interval above 1", _interval(direct),
                  direct["value"] >= limits.ratio and direct["low"] > 1),
        Condition(f"CCL ends no lower (interval above {limits.final:g} sd)", _interval(final), final["low"] > limits.final),
        *(Condition(f"{arm} does not match CCL (interval above 1)", _interval(ratios[arm]), ratios[arm]["low"] > 1)
          for arm in ("A3", "A5")),
    ]  # fmt: skip
    weak = [arm for arm in ("A1", "A2", "A3", "A5") if not found["rise"][arm] >= instruments.trained_rise]
    if weak:
        why = f"The instrument fails: {', '.join(weak)} did not raise its own reward by {instruments.trained_rise:g} sd."
        return Verdict("inconclusive", why, direct, conditions)
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"Direct use swings {_interval(direct)} times as much as CCL.", direct, conditions)
    if direct["low"] <= 1:
        if found["power"] >= limits.power:
            why = f"Direct use is not less steady than CCL; a ratio of {limits.ratio:g} had a power of {found['power']:.2f}."
            return Verdict("refuted", why, direct, conditions)
        return Verdict("inconclusive", f"The power for {limits.ratio:g} is only {found['power']:.2f}.", direct, conditions)
    matching = [arm for arm in ("A3", "A5") if ratios[arm]["value"] <= 1]
    if matching:
        return Verdict("refuted", f"{' and '.join(matching)} as steady as CCL: its order is not the cause.", direct, conditions)
    return Verdict("inconclusive", _missing(conditions), direct, conditions)


def claim3(found: Numbers, limits: Claim3Limits, instruments: InstrumentLimits) -> Verdict:
    """Divergence of trained reward and held-out groups under RM_0 and under CCL, at the same distance."""
    groups, index = found["groups"], found["index_difference"]
    if len(groups) < instruments.groups:
        why = f"The instrument fails: only {len(groups)} held-out groups can be relied on."
        return Verdict("inconclusive", why, index, [])
    down = {arm: [name for name in groups if found["arms"][arm]["groups"][name]["down"]] for arm in ("A0", "A2")}
    diverges = {arm: len(names) >= limits.down * len(groups) for arm, names in down.items()}
    gold, over = found["arms"]["A2"]["groups"].get("gold"), found["gold_over_fidelity"]
    rise = found["arms"]["A0"]["trained"]
    conditions = [
        Condition(f"RM_0's own reward up by ≥ {limits.rise:g} sd", _interval(rise), rise["value"] >= limits.rise),
        Condition(f"with RM_0 ≥ {limits.down:g} of the held-out groups down", _named(down["A0"], groups), diverges["A0"]),
        Condition("with CCL no held-out group down", _named(down["A2"], groups), not down["A2"]),
        Condition("with CCL the gold reward up", _interval(gold) if gold else "does not count", bool(gold) and gold["low"] > 0),
        Condition("… more than with fidelity alone", _interval(over), over["low"] > 0),
        Condition("hacking index higher with RM_0 (interval above 0)", _interval(index), index["low"] > 0),
    ]
    if all(condition.holds for condition in conditions):
        return Verdict("confirmed", f"The hacking index differs by {_interval(index)}.", index, conditions)
    if not conditions[0].holds:
        why = f"The instrument fails: RM_0's reward did not rise by {limits.rise:g} sd."
        return Verdict("inconclusive", why, index, conditions)
    if diverges["A0"] == diverges["A2"]:
        which = "Both rewards rise while held-out groups fall" if diverges["A0"] else "Neither reward makes held-out groups fall"
        return Verdict("refuted", f"{which}.", index, conditions)
    return Verdict("inconclusive", _missing(conditions), index, conditions)


def _missing(conditions: Sequence[Condition]) -> str:
    return "Not met: " + "; ".join(condition.text for condition in conditions if not condition.holds) + "."


def _named(names: Sequence[str], of: Sequence[str]) -> str:
    return f"{len(names)} of {len(of)}" + (f": {', '.join(names)}" if names else "")


def _interval(found: Mapping[str, Any]) -> str:
    if any(found[name] is None or math.isnan(found[name]) for name in ("value", "low", "high")):
        return "not measured"
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
