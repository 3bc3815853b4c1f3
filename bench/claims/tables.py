"""The numbers as tables for people. Pure: numbers in; title, what it says, header, rows and files out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.claims import statistics
from bench.claims.protocol import CLAIMS, Protocol

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells are texts; `files` are what the numbers come from, relative to the folder of the whole plan."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    files: Sequence[str] = ()


def of_claims(numbers: Numbers, protocol: Protocol) -> dict[str, list[Table]]:
    """The tables of each claim, those of the family that decides first."""
    makers = {"claim1": claim1, "claim2": claim2, "claim3": claim3}
    families = sorted(numbers["families"].items(), key=lambda item: item[0] != "paper")
    return {
        name: [table for family, found in families if found[name] for table in makers[name](found[name], family, protocol)]
        for name in CLAIMS
    }


def claim1(found: Numbers, family: str, protocol: Protocol) -> Iterator[Table]:
    """How well places are found, by whom, for both positive classes."""
    kinds = list(found["gains"])
    note = (
        f"Composites of the held-out engine: {found['rows']} rows of {found['photographs']} photographs; chance is "
        + ", ".join(f"{number(found['prevalence'][kind])} ({kind})" for kind in kinds)
        + f". Mean map of sham rows {number(found['sham'])}; triplets in order {number(found['triplets'])}."
    )
    header = ("map", *(f"AP, {kind}" for kind in kinds), *(f"RM_N's gain, {kind}" for kind in kinds))
    rows = [("RM_N", *(number(found["ap"][kind]["RM_N"]) for kind in kinds), *("" for _ in kinds))]
    for name in found["gains"][kinds[0]]:
        gains = (interval(found["gains"][kind][name]) for kind in kinds)
        rows.append((name, *(number(found["ap"][kind][name]) for kind in kinds), *gains))
    yield Table(f"Average precision ({family})", note, header, rows, found["files"])


def claim2(found: Numbers, family: str, protocol: Protocol) -> Iterator[Table]:
    """Each arm's swings in the last steps."""
    rows = []
    for arm, swings in found["instability"].items():
        compared = interval(found["ratios"][arm]) + (" (to A4c)" if arm == "A4d" else "") if arm in found["ratios"] else "1"
        rows.append((arm, protocol.arms[arm].title, number(swings), compared, number(found["final"][arm]),
                     str(len(found["broken"][arm]))))  # fmt: skip
    header = ("arm", "", "instability of R_N, z-units", "ratio to A2", "gap closure of R_N at the end", "broken runs")
    note = (
        f"{found['whole']} reward models in which no run broke, the last {protocol.measures.measured} steps. A2 ends above A1 by "
        f"{interval(found['final_difference'])}. Power for the ratio asked for, by the spread found: {number(found['power'])}."
    )
    yield Table(f"Stability ({family})", note, header, rows, found["files"])


def claim3(found: Numbers, family: str, protocol: Protocol) -> Iterator[Table]:
    """Gap closures at one distance."""
    rows = [
        (arm, protocol.arms[arm].title, *(interval(one[what]) for what in ("own", "figures", "index", "judge")),
         number(one["moved"]))
        for arm, one in found["arms"].items()
    ]  # fmt: skip
    lost = sorted({name for names in found["without_vote"].values() for name in names})
    note = (
        f"{found['whole']} reward models, {found['photographs']} photographs, {number(found['distance'])} steps of 8 bits (RMS, "
        f"median) from the untuned network. Index A0 − A2: {interval(found['difference'])}; full-reference figures A2 − A-1: "
        f"{interval(found['worth'])}. Without a vote in some model: {', '.join(lost) or 'none'}."
    )
    header = ("arm", "", "own reward", "full-reference figures", "hacking index", "independent judge", "distance at the end")
    yield Table(f"Gap closure at one distance ({family})", note, header, rows, found["files"])


def power(protocol: Protocol) -> Table:
    """What was assumed and what follows, before any run: the power of each claim's first comparison."""
    units, alpha = len(protocol.units("paper")), protocol.thresholds.alpha
    rows = []
    for name in CLAIMS:
        one = protocol.power[name]
        found = (statistics.power(one.effect, one.spread, units, level) for level in (alpha, alpha / len(CLAIMS)))
        rows.append((name, f"{one.effect:g}", f"{one.spread:g} – {one.why}", *(f"{value:.2f}" for value in found)))
    header = ("claim", "effect", "spread between reward models, assumed", f"power at {alpha:g}", f"at {alpha / len(CLAIMS):.3g}")
    return Table("Power", f"{units} reward models; stated before the first run.", header, rows)


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"


def interval(found: Mapping[str, Any]) -> str:
    """Estimate and 95 % interval."""
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"
