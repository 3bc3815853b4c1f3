"""The numbers as tables for people. Pure: numbers in; title, what it says, header, rows and files out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.claims.figures import GROUPS
from bench.claims.protocol import Protocol

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells are texts; `files` are what the numbers come from, relative to the folder of the whole plan."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    files: Sequence[str]


def claim1(numbers: Numbers) -> Iterator[Table]:
    """How well places are found, by whom, and on which engine."""
    found = numbers["claim1"]
    note = (
        f"Composites of the held-out engine, {found['rows']} rows; chance is {number(found['prevalence'])}. RM_N: mean of seeds."
    )
    ranked = sorted(found["ap"].items(), key=lambda item: -item[1])
    yield Table("Average precision of finding the mask", note, ("map", "AP"), [(k, number(v)) for k, v in ranked], found["files"])
    gains = [*found["gain_by_engine"].items(), *((f"seed {at}", one) for at, one in enumerate(found["gain_by_seed"], start=1))]
    yield Table(f"Gain over {found['best']}", "By engine; by seed of the reward model on the held-out engine.", ("", "gain"),
                [(name, interval(one)) for name, one in gains], found["files"])  # fmt: skip
    pairs = found["pairs"]
    rows = [(name, number(pairs[name]), number(found["triplets"][name])) for name in ("RM_N", "RM_0")]
    rows.append(("difference", interval(pairs["difference"]), ""))
    note = f"{pairs['rows']} composites of small area. Maps that should be empty: sham rows {number(found['sham'])}, "
    note += f"clean photographs {number(found['clean'])}."
    yield Table("Scores in order", note, ("", "pairs S_syn < S_GT", "triplets, all areas"), rows, found["files"])


def claim2(numbers: Numbers, protocol: Protocol) -> Iterator[Table]:
    """Each arm's swings."""
    found = numbers["claim2"]
    rows = []
    for arm, told in protocol.arms.items():
        swings = [value for value in found["instability"][arm] if not math.isnan(value)]
        mean = sum(swings) / len(swings) if swings else math.nan
        rows.append((
            arm, told.title, number(mean), interval(found["ratios"][arm]) if arm in found["ratios"] else "1",
            number(_mean(found["final"][arm])), number(found["rise"][arm]), number(found["drawdown"][arm]),
            number(found["spread"][arm]), number(found["steps"][arm]["gradient_cv"]), number(found["steps"][arm]["clipped"]),
            ", ".join(map(str, found["failed"][arm])) or "none",
        ))  # fmt: skip
    header = ("arm", "", "instability", "ratio to A2", "yardstick at the end", "own reward", "drawdown", "spread of ends",
              "gradient CV", "clipped", "failed seeds")  # fmt: skip
    note = f"{found['seeds']} seeds; sd over images of the untuned network. "
    note += f"A2 ends above A1 by {interval(found['final_difference'])}. "
    note += f"Power to find the ratio asked for: {number(found['power'])}."
    yield Table("Stability", note, header, rows, found["files"])


def claim3(numbers: Numbers) -> Iterator[Table]:
    """Reward and held-out groups at the same distance, and at the end."""
    found = numbers["claim3"]
    rows = []
    for arm, one in found["arms"].items():
        cells = [interval(one["groups"][name]) + (" ↓" if one["groups"][name]["down"] else "") for name in GROUPS]
        rows.append((arm, interval(one["trained"]), *cells, interval(one["index"]), number(found["final_distance"][arm])))
    header = ("arm", "own reward", *(name if name in found["groups"] else f"{name} (does not count)" for name in GROUPS),
              "hacking index", "distance at the end")  # fmt: skip
    note = f"Changes in sd over images at a distance of {number(found['distance'])} 8-bit steps (RMS); ↓: down by Holm's test. "
    note += f"Index A0 − A2: {interval(found['index_difference'])}; gold A2 − A-1: {interval(found['gold_over_fidelity'])}."
    yield Table("At the same distance", note, header, rows, found["files"])
    end = numbers["at_the_end"]
    rows = [(arm, *(interval(one[name]) for name in GROUPS)) for arm, one in end.items() if arm != "files" and one]
    yield Table("The last networks", "Changes in sd over images, mean over seeds, intervals over photographs.", ("arm", *GROUPS),
                rows, end["files"])  # fmt: skip


def extras(numbers: Numbers) -> Iterator[Table]:
    """Gates, targets and masks; transfer; the attack; the instruments."""
    found = numbers["variants"]
    rows: list[tuple[str, ...]] = [
        (name, number(one["ap"]), interval(one["to_concat"]), number(one["cc"]), number(one["sham"]), number(one["triplets"]),
         number(one["clean_spread"])) for name, one in found.items() if name != "files"
    ]  # fmt: skip
    yield Table("Gates, targets, masks", "concat, paper, complement, residual: gates. pixel: trained on maps without features; "
                "hard: on masks without feather; on-hard: judged on such masks, of the tuned engine alone. Shorter training.",
                ("", "AP", "AP − concat", "CC", "sham", "triplets", "sd of clean scores"), rows, found["files"])  # fmt: skip
    found = numbers["transfer"]
    rows = [
        (name + (" (held out)" if one["held_out"] else ""), str(one["rows"]), number(one["ap"]), number(one["cc"]),
         number(one["triplets"]["RM_N"]), number(one["triplets"]["RM_0"])) for name, one in found.items() if name != "files"
    ]  # fmt: skip
    yield Table("Transfer", "Engines, on photographs that no training saw.",
                ("engine", "rows", "AP", "CC", "triplets", "triplets RM_0"), rows, found["files"])  # fmt: skip
    found = numbers["attack"]
    rows = [
        (row["on"], f"{row['epsilon']:g}/255", *(interval(row[name]) for name in ("psnr", "RM_0", "RM_N", "gold")))
        for row in found["rows"]
    ]
    yield Table("Gradient ascent on the input", "Gain in sd over the untuned outputs, and what the others say.",
                ("raised", "largest change", "PSNR to the start", "RM_0", "RM_N", "gold"), rows, found["files"])  # fmt: skip
    found = numbers["instruments"]
    rows = [
        (name, ", ".join(number(value) for value in found["mixtures"][name]), "yes" if found["orders"][name] else "no",
         number(found["planted"].get(name)), "yes" if name in found["counting"] else "no") for name in GROUPS
    ]  # fmt: skip
    yield Table("Instruments", f"Value by the reference's share in a mixture with the output, sd; share of "
                f"{found['planted_rows']} planted defects told from their references.",
                ("group", "mixtures", "in order", "planted", "counts"), rows, found["files"])  # fmt: skip


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"


def interval(found: Mapping[str, Any]) -> str:
    """Estimate and 95 % interval."""
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
