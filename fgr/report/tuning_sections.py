"""Report on a tuning run: rewards, held-out metrics, alarms, outputs before and after."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgr.records import current_figures
from fgr.report import charts
from fgr.report.section import Section, data_uri, dotted, render
from fgr.training import directory as runs

LABELS = {
    "input": "low-resolution input", "reference": "reference", "before": "before", "after": "after",
    "difference": "difference ×8", "map_before": "map before", "map_after": "map after",
}  # fmt: skip


def title(directory: Path) -> str:
    """The page's title."""
    run = runs.read(directory)
    return f"{run['recipe']['name']} – {run['facts']['generator']['name']} tuned"


def summary(directory: Path, rows: int) -> Section:
    """How the run ended, and what it was."""
    run, outcome = runs.read(directory), _summary(directory)
    audits = _lines(directory, "audit")
    facts = [("generator", run["facts"]["generator"]["name"]), ("weights", run["facts"]["generator"]["digest"][:16] + "…")]
    facts.append(("stages of the reward model", str(len(run["facts"]["reward"]))))
    if outcome:
        facts += [
            ("steps", str(outcome["steps"])), ("ended", outcome["ended"] or "as planned"),
            ("best by the held-out metrics", f"step {outcome['best_step']}"), ("trained reward", f"{outcome['reward']:+.2f} sd"),
            ("held-out metrics", f"{outcome['held_out']:+.2f} sd"), ("hacking index", f"{outcome['hacking_index']:+.2f}"),
            ("alarms", ", ".join(map(str, outcome["alarms"])) or "none"), ("rollbacks", str(outcome["rollbacks"])),
            ("steps without a usable gradient", str(outcome["skipped"])), ("audited images", str(outcome["images"])),
        ]  # fmt: skip
    elif audits:
        facts += [("last audit", f"step {audits[-1]['step']}"), ("ended", "not yet: the same command goes on")]
    events = [(line["step"], line["event"], line["reason"]) for line in _lines(directory, "event")]
    return Section("Run", render("tuning_run.html", facts=facts, events=events, recipe=dotted(run["recipe"])))


def curves(directory: Path, rows: int) -> Section | None:
    """Trained reward, held-out metrics and hacking index with stages and alarms; the metrics' groups; the training steps."""
    audits, steps = _lines(directory, "audit"), _lines(directory, "train")
    if not audits:
        return None
    alarms = [line["step"] for line in audits if line["alarm"]]
    stages = _stages(audits, steps)
    names = {"trained reward": "reward", "held-out metrics": "held_out", "hacking index": "hacking_index"}
    panels = [_panel("Reward and held-out metrics", "in sd over images since the start; dashed: a stage begins; red: alarm",
                     audits, names, stages, alarms)]  # fmt: skip
    groups = {name.removeprefix("held_out_"): name for name in audits[-1] if name.startswith("held_out_")}
    if groups:
        panels.append(_panel("Held-out metrics by group", "mean change, larger = better", audits, groups, stages, alarms))
    if steps:
        rise = _thinned(steps)
        panels.append(_panel("Training", "the stage's reward in its z-units, each batch", rise, {"reward": "reward"}, stages, []))
        panels.append(_panel("Gradient", "norm before clipping", rise, {"norm": "norm"}, stages, []))
    return Section("Curves", render("panels.html", panels=panels, legend=""))


def comparison(directory: Path, rows: int) -> Section | None:
    """Each figure at the start and of the best network, with its interval over images."""
    outcome = _summary(directory)
    if not outcome:
        return None
    table = [
        [
            row["metric"], row["group"] if row["counts"] else f"{row['group']} (shown only)", "↑" if row["better"] > 0 else "↓",
            f"{row['start']:.4g}", f"{row['end']:.4g}", f"{row['difference']:+.3g}", f"[{row['low']:+.3g}, {row['high']:+.3g}]",
            f"{100 * row['won']:.0f} %",
        ]
        for row in outcome["metrics"]
    ]  # fmt: skip
    return Section("Start and end", render("tuning_table.html", rows=table, images=outcome["images"], best=outcome["best_step"]))


def gallery(directory: Path, rows: int) -> Section | None:
    """Images before and after, their difference and the reward model's maps; of an unfinished run, its newest sheet."""
    outcome = _summary(directory)
    if outcome:
        shown = [
            [(LABELS[name], data_uri((directory / "examples" / f"{number}-{name}.webp").read_bytes())) for name in names]
            for number, names in enumerate(outcome["examples"][:rows])
        ]
        return Section("Pictures", render("tuning.html", rows=shown, best=outcome["best_step"]))
    sheets = sorted((directory / "sheets").glob("step-*.webp"))
    if not sheets:
        return None
    return Section("Pictures", render("tuning.html", rows=[[(sheets[-1].stem, data_uri(sheets[-1].read_bytes()))]], best=None))


def _panel(
    name: str, note: str, lines: Sequence[Mapping[str, Any]], names: Mapping[str, str], stages: Mapping[float, str],
    alarms: Sequence[float],
) -> tuple[str, str, str]:  # fmt: skip
    series = {label: _series(lines, key) for label, key in names.items()}
    return name, note, charts.lines(series, stages, alarms) + charts.legend(list(series))


def _series(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _stages(audits: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> dict[float, str]:
    """Where each stage begins, and its name; nothing where there is one stage only."""
    begins: dict[float, str] = {}
    before = None
    for line in steps or audits:
        if line["stage"] != before:
            before = line["stage"]
            begins[line["step"]] = f"RM_{before}"
    return begins if len(begins) > 1 else {}


def _thinned(steps: Sequence[Mapping[str, Any]], most: int = 300) -> list[dict[str, Any]]:
    """Means over equal runs of steps, so that a long curve stays small."""
    width = max(1, len(steps) // most)
    thinned = []
    for start in range(0, len(steps), width):
        part = steps[start : start + width]
        values = {key: [line[key] for line in part if line.get(key) is not None] for key in ("step", "reward", "norm")}
        thinned.append({key: sum(found) / len(found) for key, found in values.items() if found})
    return thinned


def _lines(directory: Path, split: str) -> list[dict[str, Any]]:
    return [line for line in runs.metrics(directory) if line.get("split") == split]


def _summary(directory: Path) -> dict[str, Any] | None:
    path = directory / "summary.json"
    return json.loads(path.read_text(encoding="utf-8"), object_hook=current_figures) if path.is_file() else None
