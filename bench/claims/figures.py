"""From the jobs' files to the numbers that verdicts and tables are made of; each part names the files it comes from."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import statistics
from bench.claims.localising import CLASSES
from bench.claims.protocol import COMPARED, Protocol, Unit
from fgr import atomic
from fgr.training import directory as runs

Rows = list[dict[str, Any]]
BESIDE = "judge_0"  # R_N of the unit, as tuning runs log it that have it beside the trained reward
OWN = {"A0": "RM_0"}  # what an arm was trained on, RM_N otherwise


def collect(out: Path, protocol: Protocol) -> dict[str, Any]:
    """Every number, from finished jobs' folders alone."""
    dealt = _read(out / "photographs" / "photographs.json")
    return {
        "protocol": protocol.digest, "recipes": protocol.recipes(), "tier": protocol.tier,
        "photographs": {part: len(names) for part, names in dealt.items()},
        "families": {name: family(out, protocol, protocol.units(name)) for name in protocol.families},
    }  # fmt: skip


def family(out: Path, protocol: Protocol, units: Sequence[Unit]) -> dict[str, Any]:
    """The three claims' numbers of one family of reward models: of those whose jobs are done; None where that is none."""
    found: dict[str, Any] = {"units": [unit.name for unit in units]}
    for claim, (last, measured) in CLAIMED.items():
        done = [unit for unit in units if (out / f"{last}-{unit.name}").is_dir()]
        found[claim] = measured(out, protocol, done) if done else None
    return found


def write(path: Path, numbers: Mapping[str, Any]) -> None:
    """numbers.json: six digits, what is not finite as null."""
    atomic.write_text(path, json.dumps(plain(numbers), indent=1) + "\n")


def plain(value: Any) -> Any:
    """JSON values, floats with six digits."""
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


def opened(value: Any) -> Any:
    """What `plain` made of numbers, null as nan again."""
    if isinstance(value, Mapping):
        return {name: opened(one) for name, one in value.items()}
    if isinstance(value, list):
        return [opened(one) for one in value]
    return math.nan if value is None else value


def localisation(out: Path, protocol: Protocol, units: Sequence[Unit]) -> dict[str, Any]:
    """Claim 1: gains of RM_N's map over each baseline, for each positive class."""
    names = [f"maps-{unit.name}" for unit in units]
    rows = [_read(out / name / "rows.json")["rows"] for name in names]
    drawn = [[row for row in part if row["ap"]] for part in rows]
    maps = list(drawn[0][0]["ap"]) if drawn[0] else []
    gains = {
        kind: {
            name: asdict(statistics.crossed(_by_photograph(drawn, kind, name), protocol.measures.resamples))
            for name in maps if name != "RM_N"
        } for kind in CLASSES
    }  # fmt: skip
    everyone = [row for part in rows for row in part]
    return {
        "files": [f"{name}/rows.json" for name in names], "whole": len(units), "rows": len(drawn[0]),
        "photographs": len({row["photo_id"] for row in drawn[0]}), "gains": gains,
        "ap": {kind: {name: _mean(row["ap"][name][kind] for part in drawn for row in part) for name in maps} for kind in CLASSES},
        "prevalence": {kind: _mean(row["prevalence"][kind] for row in drawn[0]) for kind in CLASSES},
        "sham": _mean(row["mean"] for row in everyone if row["mask_kind"] == "sham"),
        "triplets": _mean(row["scores"][0] < row["scores"][1] < row["scores"][2] for part in drawn for row in part),
        "by_unit": {
            unit.name: {kind: {name: _mean(row["ap"][name][kind] for row in part) for name in maps} for kind in CLASSES}
            for unit, part in zip(units, drawn, strict=True)
        },
    }  # fmt: skip


def _by_photograph(units: Sequence[Rows], kind: str, baseline: str) -> np.ndarray:
    """AP of RM_N's map minus a baseline's (units, photographs), a photograph's rows averaged."""
    photographs = sorted({row["photo_id"] for row in units[0]})
    return np.array([
        [_mean(row["ap"]["RM_N"][kind] - row["ap"][baseline][kind] for row in rows if row["photo_id"] == name)
         for name in photographs] for rows in units
    ])  # fmt: skip


def stability(out: Path, protocol: Protocol, units: Sequence[Unit]) -> dict[str, Any]:
    """Claim 2: instability in the last steps, which the arms spend on R_N alike; units in which a run broke are counted apart."""
    arms = [arm for arm in protocol.families[units[0].family].arms if arm not in ("A-1", "A0")]
    resamples, first = protocol.measures.resamples, _steps(protocol) - protocol.measures.measured
    broken = {arm: [unit.name for unit in units if _ended(out, arm, unit)] for arm in arms}
    whole = [unit for unit in units if not any(unit.name in names for names in broken.values())]
    swings = {arm: [statistics.instability(curve(out, arm, unit, first)[1]) for unit in whole] for arm in arms}
    final = {arm: [_closure(_judged(out, unit), arm, "end", "RM_N") for unit in whole] for arm in arms}
    logs = np.log(np.array(swings["A1"]) / np.array(swings["A2"]))
    limits, alpha = protocol.thresholds.claim2, protocol.thresholds.alpha
    spread = float(logs.std(ddof=1)) if len(logs) > 1 else math.nan
    pairs = {arm: ("A4c" if arm == "A4d" else "A2") for arm in arms if arm not in ("A2", "A4c")}
    return {
        "files": [f"tune-{arm}-{unit.name}/metrics.jsonl" for arm in arms for unit in units],
        "whole": len(whole), "broken": broken,
        "instability": {arm: _mean(values) for arm, values in swings.items()},
        "ratios": {arm: asdict(statistics.ratio(swings[arm], swings[to], resamples)) for arm, to in pairs.items()},
        "final": {arm: _mean(values) for arm, values in final.items()},
        "final_difference": asdict(_over_units(np.array(final["A2"]) - np.array(final["A1"]), resamples)),
        "power": statistics.power(math.log(limits.ratio), spread, len(logs), alpha),
        "breaks_more": statistics.sign_test(*_discordant(broken)),
        "by_unit": {
            unit.name: {
                "instability": {arm: swings[arm][number] for arm in arms}, "final": {arm: final[arm][number] for arm in arms}
            }
            for number, unit in enumerate(whole)
        },
    }  # fmt: skip


def curve(out: Path, arm: str, unit: Unit, first: int = 0) -> tuple[list[int], list[float]]:
    """Steps from `first` on, and the yardstick there: R_N in z-units."""
    lines = [line for line in runs.metrics(out / f"tune-{arm}-{unit.name}") if line.get("split") == "audit"]
    chosen = [line for line in lines if line["step"] >= first]
    stages = sorted({int(name[7:]) for line in lines for name in line if re.fullmatch(r"reward_\d+", name)})
    return [line["step"] for line in chosen], [line.get(BESIDE, line[f"reward_{stages[-1]}"]) for line in chosen]


def _steps(protocol: Protocol) -> int:
    return int(protocol.tuning.changes["training"]["steps"])


def _discordant(broken: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """Units in which A2 broke and A1 did not, and the other way round."""
    direct, curriculum = set(broken["A1"]), set(broken["A2"])
    return len(curriculum - direct), len(direct - curriculum)


def hacking(out: Path, protocol: Protocol, units: Sequence[Unit]) -> dict[str, Any]:
    """Claim 3: gap closures at one distance in each unit; a unit where a figure or reward has no gap is left out and named."""
    found = {unit.name: _judged(out, unit) for unit in units}
    parts = {name: _of_unit(judged) for name, judged in found.items()}
    kept = {name: part for name, part in parts.items() if part is not None}
    resamples = protocol.measures.resamples

    def effect(values: Iterable[np.ndarray]) -> dict[str, Any]:
        matrix = list(values)
        return asdict(statistics.crossed(np.array(matrix), resamples) if matrix else statistics.NONE)

    arms = {
        arm: {what: effect(part[arm][what] for part in kept.values()) for what in ("own", "figures", "judge", "index")}
        | {"moved": _mean(found[name]["arms"][arm]["moved"] for name in kept)}
        for arm in COMPARED
    }  # fmt: skip
    return {
        "files": [f"judged-{unit.name}/judged.json" for unit in units], "whole": len(kept),
        "left_out": [name for name, part in parts.items() if part is None], "arms": arms,
        "photographs": len(next(iter(found.values()))["photographs"]),
        "distance": float(np.median([one["distance"] for one in found.values()])),
        "without_vote": {name: one["without_vote"] for name, one in found.items()},
        "difference": effect(part["A0"]["index"] - part["A2"]["index"] for part in kept.values()),
        "worth": effect(part["A2"]["figures"] - part["A-1"]["figures"] for part in kept.values()),
        "by_unit": {
            name: {"distance": found[name]["distance"]}
            | {arm: {what: _mean(values) for what, values in one.items()} for arm, one in part.items()}
            for name, part in kept.items()
        },
    }  # fmt: skip


def _of_unit(judged: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]] | None:
    """Each compared arm's closures by photograph (photographs,): of its own reward, of the figures that vote, of the judge."""
    photographs, found = judged["photographs"], {}
    for arm in COMPARED:
        if arm not in judged["arms"]:  # it broke before it had a network
            return None
        closures = judged["arms"][arm]["at"]
        own = closures.get(OWN.get(arm, "RM_N"))
        votes = [one for name, one in closures.items() if name not in ("RM_0", "RM_N", "judge", *judged["without_vote"])]
        if own is None or not votes:
            return None
        rows = {"own": [own], "figures": votes, "judge": [closures["judge"]] if "judge" in closures else []}
        part = {
            what: np.mean([[one["photographs"][name] for name in photographs] for one in several], axis=0)
            if several else np.full(len(photographs), math.nan) for what, several in rows.items()
        }  # fmt: skip
        found[arm] = part | {"index": part["own"] - part["figures"]}
    return found


CLAIMED = {"claim1": ("maps", localisation), "claim2": ("judged", stability), "claim3": ("judged", hacking)}  # by their last jobs


def _judged(out: Path, unit: Unit) -> dict[str, Any]:
    return _read(out / f"judged-{unit.name}" / "judged.json")


def _closure(judged: Mapping[str, Any], arm: str, where: str, name: str) -> float:
    one = judged["arms"].get(arm, {}).get(where, {}).get(name)
    return float(one["value"]) if one else math.nan


def _ended(out: Path, arm: str, unit: Unit) -> str | None:
    return _read(out / f"tune-{arm}-{unit.name}" / "ended.json")["failed"]


def _over_units(values: Iterable[float], resamples: int) -> statistics.Effect:
    return statistics.over_units([float(value) for value in values if math.isfinite(value)], resamples)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _mean(values: Iterable[Any]) -> float:
    found = [float(value) for value in values]
    return float(np.mean(found)) if found else math.nan
