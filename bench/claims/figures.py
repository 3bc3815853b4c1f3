"""From the run folders' files to the numbers that verdicts and tables are made of; each part names the files it comes from."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import statistics
from bench.claims.protocol import Protocol
from fgr import atomic
from fgr.records import current_figures
from fgr.training import directory as runs

Rows = list[dict[str, Any]]
GROUPS = {"fidelity": "held_out_fidelity", "consistency": "held_out_consistency", "naturalness": "held_out_naturalness",
          "gold": "held_out_judge_0"}  # fmt: skip
METRICS = {"fidelity": ("psnr", "ms_ssim"), "consistency": ("consistency",), "naturalness": ("niqe",),
           "gold": ("gold_score", "gold_severity")}  # fmt: skip
YARDSTICK = "held_out_judge_1"  # RM_N's reward, in sd over images


def collect(out: Path, protocol: Protocol) -> dict[str, Any]:
    """Every number, from finished jobs' folders alone."""
    audits = {name: {str(seed): _audits(out / f"tune-{name}-{seed}") for seed in protocol.tuning.seeds} for name in protocol.arms}
    instruments = _instruments(out, protocol)
    return {
        "protocol": protocol.digest, "tier": protocol.tier,
        "photographs": {part: len(names) for part, names in _read(out / "photographs" / "photographs.json").items()},
        "instruments": instruments, "claim1": localisation(out, protocol), "claim2": stability(audits, out, protocol),
        "claim3": hacking(audits, instruments["counting"], protocol), "at_the_end": _at_the_end(out, protocol),
        "variants": _variants(out, protocol), "transfer": _transfer(out, protocol), "attack": _attack(out, protocol),
    }  # fmt: skip


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


def localisation(out: Path, protocol: Protocol) -> dict[str, Any]:
    """Claim 1."""
    names = [f"maps-rm-{number}" for number, _ in enumerate(protocol.reward.seeds, start=1)]
    seeds, resamples = [_rows(out / name) for name in names], protocol.measures.resamples
    held = [_defective(rows, [protocol.engines.held_out]) for rows in seeds]
    ap = {name: _mean(row["maps"][name]["ap"] for row in held[0]) for name in held[0][0]["maps"] if name != "RM_N"}
    best = max(ap, key=lambda name: ap[name])
    ap["RM_N"] = _mean(row["maps"]["RM_N"]["ap"] for rows in held for row in rows)
    small = [[row for row in _defective(rows) if row["mask_area"] <= protocol.thresholds.claim1.small_area] for rows in seeds]
    return {
        "files": [f"{name}/rows.json" for name in names], "rows": len(held[0]), "ap": ap, "best": best,
        "prevalence": _mean(row["prevalence"] for row in held[0]), "gain": _gain(held, best, resamples),
        "gain_by_seed": [_gain([rows], best, resamples, held[0]) for rows in held],
        "gain_by_engine": {
            engine: _gain([_defective(rows, [engine]) for rows in seeds], best, resamples)
            for engine in (*protocol.engines.train, protocol.engines.held_out)
        },
        "sham": _mean(row["maps"]["RM_N"]["mean"] for rows in seeds for row in rows if row["mask_kind"] == "sham"),
        "clean": _mean(row["clean"] for rows in seeds for row in rows), "pairs": _pairs(small, resamples),
        "triplets": {
            name: _mean(_ordered(row["scores"][name]) for rows in seeds for row in _defective(rows)) for name in ("RM_N", "RM_0")
        },
    }  # fmt: skip


def _gain(seeds: Sequence[Rows], best: str, resamples: int, baseline: Rows | None = None) -> dict[str, Any]:
    """AP of the map, mean over seeds, minus that of the baseline, which the first seed's rows hold."""
    first = baseline or seeds[0]
    own = np.mean([[row["maps"]["RM_N"]["ap"] for row in rows] for rows in seeds], axis=0)
    gains = own - np.array([row["maps"][best]["ap"] for row in first])
    return asdict(statistics.over_groups(gains.tolist(), [row["photo_id"] for row in first], resamples))


def _pairs(seeds: Sequence[Rows], resamples: int) -> dict[str, Any]:
    right = {
        name: np.mean([[float(row["scores"][name][1] < row["scores"][name][2]) for row in rows] for rows in seeds], axis=0)
        for name in ("RM_N", "RM_0")
    }
    photos = [row["photo_id"] for row in seeds[0]]
    difference = statistics.over_groups((right["RM_N"] - right["RM_0"]).tolist(), photos, resamples)
    return {name: _mean(values) for name, values in right.items()} | {"rows": len(photos), "difference": asdict(difference)}


def stability(audits: Mapping[str, Mapping[str, Rows]], out: Path, protocol: Protocol) -> dict[str, Any]:
    """Claim 2."""
    resamples, failed = protocol.measures.resamples, _failed(out, protocol)
    whole = [str(seed) for seed in protocol.tuning.seeds if not any(seed in seeds for seeds in failed.values())]
    curves = {arm: {seed: [line[YARDSTICK] for line in rows] for seed, rows in seeds.items()} for arm, seeds in audits.items()}
    swings = {arm: [statistics.instability(seeds[seed]) for seed in whole] for arm, seeds in curves.items()}
    last = {arm: [seeds[seed][-1] for seed in whole] for arm, seeds in curves.items()}
    logs = np.log(np.array(swings["A1"]) / np.array(swings["A2"])).tolist()
    limits = protocol.thresholds.claim2
    return {
        "files": [f"tune-{arm}-{seed}/metrics.jsonl" for arm in protocol.arms for seed in protocol.tuning.seeds],
        "seeds": len(whole), "failed": failed, "instability": swings, "final": last,
        "ratios": {arm: asdict(statistics.ratio(swings[arm], swings["A2"], resamples)) for arm in swings if arm != "A2"},
        "final_difference": asdict(_over_seeds(np.array(last["A2"]) - np.array(last["A1"]), resamples)),
        "power": statistics.power(logs, math.log(limits.ratio), limits.alpha),
        "rise": {arm: _mean(seeds[seed][-1]["last_reward"] for seed in whole) for arm, seeds in audits.items()},
        "drawdown": {arm: _mean(statistics.drawdown(seeds[seed]) for seed in whole) for arm, seeds in curves.items()},
        "spread": {arm: float(np.subtract(*np.percentile(values, [75, 25]))) for arm, values in last.items()},
        "steps": _steps(out, protocol, whole),
    }  # fmt: skip


def _steps(out: Path, protocol: Protocol, whole: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of the training steps' second half: coefficient of variation of the gradient's norm, and the share that was clipped."""
    found = {}
    for arm in protocol.arms:
        cv, clipped = [], []
        for seed in whole:
            lines = [line for line in runs.metrics(out / f"tune-{arm}-{seed}") if line.get("split") == "train"]
            norms = np.array([line["norm"] for line in lines[len(lines) // 2 :]])
            cv.append(norms.std() / max(norms.mean(), 1e-12))
            clipped.append(np.mean([line["clipped"] for line in lines]))
        found[arm] = {"gradient_cv": _mean(cv), "clipped": _mean(clipped)}
    return found


def hacking(audits: Mapping[str, Mapping[str, Rows]], counting: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    """Claim 3, at the distance that A0 and A2 both reach."""
    resamples, alpha = protocol.measures.resamples, protocol.thresholds.claim3.alpha
    seeds = list(audits["A0"])
    wanted = {seed: min(max(line["distance"] for line in audits[arm][seed]) for arm in ("A0", "A2")) for seed in seeds}
    arms, index, gold = {}, {}, {}
    for arm in ("A-1", "A0", "A1", "A2"):
        values = {name: [_at(audits[arm][seed], key, wanted[seed]) for seed in seeds] for name, key in GROUPS.items()}
        trained = [_at(audits[arm][seed], "last_reward", wanted[seed]) for seed in seeds]
        adjusted = statistics.holm({name: statistics.below_zero(values[name]) for name in counting})
        index[arm] = np.array(trained) - np.mean([values[name] for name in counting] or [[0.0] * len(seeds)], axis=0)
        gold[arm] = np.array(values["gold"])
        arms[arm] = {
            "trained": asdict(_over_seeds(trained, resamples)), "index": asdict(_over_seeds(index[arm], resamples)),
            "groups": {
                name: asdict(_over_seeds(values[name], resamples))
                | {"p": adjusted.get(name, math.nan), "down": adjusted.get(name, 1.0) < alpha}
                for name in GROUPS
            },
        }  # fmt: skip
    return {
        "files": [f"tune-{arm}-{seed}/metrics.jsonl" for arm in arms for seed in seeds], "groups": list(counting), "arms": arms,
        "distance": _mean(wanted.values()), "final_distance": {
            arm: _mean(rows[-1]["distance"] for rows in seeds_.values()) for arm, seeds_ in audits.items()
        },
        "index_difference": asdict(_over_seeds(index["A0"] - index["A2"], resamples)),
        "gold_over_fidelity": asdict(_over_seeds(gold["A2"] - gold["A-1"], resamples)),
    }  # fmt: skip


def _instruments(out: Path, protocol: Protocol) -> dict[str, Any]:
    found, limits = _read(out / "instruments" / "instruments.json"), protocol.thresholds.instruments
    mixed, planted = found["mixtures"], found["planted"]
    curves = {
        group: [
            _mean(mixed["better"][name] * _mean(values[name]) / _spread(mixed["values"]["0"][name]) for name in names)
            for values in mixed["values"].values()
        ]
        for group, names in METRICS.items()
    }
    told = {group: _found(planted, {name: mixed["better"][name] for name in METRICS[group]}) for group in ("naturalness", "gold")}
    orders = {group: statistics.rises(curve) for group, curve in curves.items()}
    counting = [group for group in GROUPS if orders[group] and (group != "gold" or told[group] > limits.planted_auc)]
    return {"files": ["instruments/instruments.json"], "mixtures": curves, "orders": orders, "planted": told,
            "planted_rows": len(planted), "counting": counting}  # fmt: skip


def _found(planted: Rows, better: Mapping[str, float]) -> float:
    """Share of the planted defects that the metrics, each in sd of its falls, together put below their references."""
    if not planted:
        return math.nan
    falls = [sign * np.array([row[name][1] - row[name][0] for row in planted]) for name, sign in better.items()]
    return _mean(np.sum([fall / _spread(fall.tolist()) for fall in falls], axis=0) > 0)


def _at_the_end(out: Path, protocol: Protocol) -> dict[str, Any]:
    """The last networks on the crops of the test photographs: change since the untuned one, sd over crops, by group; intervals
    over photographs, each image's change the mean over the seeds."""
    start = _read(out / "instruments" / "instruments.json")["mixtures"]
    found: dict[str, Any] = {"files": []}
    for arm in protocol.arms:
        files = [out / f"tune-{arm}-{seed}" / "judged.json" for seed in protocol.tuning.seeds]
        judged = [one for one in map(_read, files) if "failed" not in one]
        found["files"] += [str(file.relative_to(out)) for file in files]
        found[arm] = {}
        for group, names in METRICS.items() if judged else ():
            changes = np.mean([
                start["better"][name] * (np.array(one["values"][name]) - np.array(start["values"]["0"][name]))
                / _spread(start["values"]["0"][name]) for one in judged for name in names
            ], axis=0)  # fmt: skip
            found[arm][group] = asdict(statistics.over_groups(changes.tolist(), start["photos"], protocol.measures.resamples))
    return found


def _variants(out: Path, protocol: Protocol) -> dict[str, Any]:
    """Gates, targets and masks compared, each trained for the shorter time; differences to `concat` over photographs."""
    names = [*protocol.reward.compared, *(f"{name}-on-hard" for name in ("concat", "hard") if name in protocol.reward.compared)]
    found: dict[str, Any] = {"files": [f"maps-{name}/rows.json" for name in names]}
    for name in names:
        rows = _rows(out / f"maps-{name}")
        basis = _defective(_rows(out / ("maps-concat-on-hard" if name.endswith("-on-hard") else "maps-concat")))
        own, scores = _defective(rows), [row["scores"]["RM_N"][2] for row in rows]
        gains = [a["maps"]["RM_N"]["ap"] - b["maps"]["RM_N"]["ap"] for a, b in zip(own, basis, strict=True)]
        found[name] = {
            "ap": _mean(row["maps"]["RM_N"]["ap"] for row in own), "cc": _mean(row["maps"]["RM_N"]["cc"] for row in own),
            "to_concat": asdict(statistics.over_groups(gains, [row["photo_id"] for row in own], protocol.measures.resamples)),
            "sham": _mean(row["maps"]["RM_N"]["mean"] for row in rows if row["mask_kind"] == "sham"),
            "triplets": _mean(_ordered(row["scores"]["RM_N"]) for row in own), "clean_spread": float(np.std(scores)),
        }  # fmt: skip
    return found


def _transfer(out: Path, protocol: Protocol) -> dict[str, Any]:
    """Map and scores by engine, on photographs that no training saw."""
    names = [f"maps-rm-{number}" for number, _ in enumerate(protocol.reward.seeds, start=1)]
    found: dict[str, Any] = {"files": [f"{name}/rows.json" for name in names]}
    seeds = [_rows(out / name) for name in names]
    for engine in (*protocol.engines.train, protocol.engines.held_out):
        rows = [row for part in seeds for row in _defective(part, [engine])]
        found[engine] = {
            "held_out": engine == protocol.engines.held_out, "rows": len(rows) // len(seeds),
            "ap": _mean(row["maps"]["RM_N"]["ap"] for row in rows), "cc": _mean(row["maps"]["RM_N"]["cc"] for row in rows),
            "triplets": {name: _mean(_ordered(row["scores"][name]) for row in rows) for name in ("RM_N", "RM_0")},
        }  # fmt: skip
    return found


def _attack(out: Path, protocol: Protocol) -> dict[str, Any]:
    found = _read(out / "attack" / "attack.json")
    rows = [
        {"on": one["on"], "epsilon": one["epsilon"]}
        | {name: asdict(statistics.over_groups(one[name], found["photos"], protocol.measures.resamples))
           for name in ("psnr", "RM_0", "RM_N", "gold")}
        for one in found["attacks"]
    ]  # fmt: skip
    return {"files": ["attack/attack.json"], "rows": rows}


def _audits(folder: Path) -> Rows:
    return [line for line in runs.metrics(folder) if line.get("split") == "audit"]


def _failed(out: Path, protocol: Protocol) -> dict[str, list[int]]:
    return {
        arm: [seed for seed in protocol.tuning.seeds if "failed" in _read(out / f"tune-{arm}-{seed}" / "judged.json")]
        for arm in protocol.arms
    }


def _defective(rows: Iterable[dict[str, Any]], engines: Sequence[str] = ()) -> Rows:
    return [row for row in rows if "ap" in row["maps"]["RM_N"] and (not engines or row["model"] in engines)]


def _ordered(scores: Sequence[float]) -> bool:
    return scores[0] < scores[1] < scores[2]


def _at(rows: Rows, key: str, wanted: float) -> float:
    return statistics.at_distance([line["distance"] for line in rows], [line[key] for line in rows], wanted)


def _over_seeds(values: Iterable[float], resamples: int) -> statistics.Interval:
    return statistics.over_seeds([float(value) for value in values], resamples)


def _rows(folder: Path) -> Rows:
    return _read(folder / "rows.json")["rows"]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), object_hook=current_figures)


def _mean(values: Iterable[Any]) -> float:
    found = [float(value) for value in values]
    return float(np.mean(found)) if found else math.nan


def _spread(values: Sequence[float]) -> float:
    return max(float(np.std(values)), 1e-6)
