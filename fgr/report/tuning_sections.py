"""Report on a tuning run: verdict, curves, alarms, planted defects, outputs before and after."""

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


SIGNS = {"right": "✓", "wrong": "✗", "unsure": "?", "none": "–"}  # what a figure says of a planted defect
CLOSURES = {
    "trained reward": "closure", "full-reference figures": "closure_full_reference", "independent judges": "closure_judges",
    "hacking index": "hacking_index",
}  # fmt: skip


def title(directory: Path) -> str:
    """The page's title."""
    run = runs.read(directory)
    audited = run["facts"].get("audited")
    return f"{audited} audited" if audited else f"{run['recipe']['name']} – {run['facts']['generator']['name']} tuned"


def verdict(directory: Path, rows: int) -> Section:
    """The audit's verdict in words, every figure's gap closure on one axis, and what the reward was worth.

    Of an unfinished run, where it stands; of one of an earlier version, its figures in words.
    """
    outcome = _summary(directory)
    if not outcome or "verdict" not in outcome:
        return Section("Verdict", render("verdict.html", words=_standing(directory, outcome)))
    closures: list[Any] = [
        (_label(row), *(_number(row[name]) for name in ("value", "low", "high")), list(row["photographs"].values()))
        for row in outcome.get("closures", ())
    ]
    chart = charts.dots(closures, {0.0: "start", 1.0: "references"}) if closures else ""
    data = {name: outcome[name] for name in ("images", "photographs", "split")}
    used = _usefulness(outcome.get("control"))
    return Section("Verdict", render("tuning_verdict.html", words=outcome["verdict"], chart=chart, usefulness=used, **data))


def planted(directory: Path, rows: int) -> Section | None:
    """What each figure says of known defects."""
    outcome = _summary(directory)
    found = (outcome or {}).get("planted")
    if not found:
        return None
    assert outcome is not None
    said = {(row["figure"], row["kind"], row["on"]): row for row in found}
    figures, kinds = (list(dict.fromkeys(row[name] for row in found)) for name in ("figure", "kind"))
    table = [
        (
            kind,
            ["".join(SIGNS[said[figure, kind, on]["says"]] for on in ("reference", "start")) for figure in figures],
            ["–" if gap is None else f"{gap:+.2f}" for gap in said[figures[0], kind, "start"]["gaps"]],
        )
        for kind in kinds
    ]
    votes = ["(trained)", *("none" if name in outcome["without_vote"] else "yes" for name in figures[1:])]
    numbered = range(1, len(table[0][2]) + 1)
    return Section(
        "Known defects", render("tuning_planted.html", figures=figures, rows=table, votes=votes, severities=list(numbered))
    )


def summary(directory: Path, rows: int) -> Section:
    """How the run ended, and what it was."""
    run, outcome = runs.read(directory), _summary(directory)
    facts = [("generator", run["facts"]["generator"]["name"]), ("weights", run["facts"]["generator"]["digest"][:16] + "…")]
    facts.append(("stages of the reward model", str(len(run["facts"]["reward"]))))
    if outcome and "audited" in outcome:
        facts += [
            ("audited network", outcome["audited"]["name"]), ("its weights", outcome["audited"]["digest"][:16] + "…"),
            *_index(outcome), ("alarm", "yes" if outcome["alarms"] else "none"), ("audited images", str(outcome["images"])),
        ]  # fmt: skip
    elif outcome:
        facts += [
            ("steps", str(outcome["steps"])), ("ended", outcome["ended"] or "as planned"),
            ("best by the held-out metrics", f"step {outcome['best_step']}"), ("trained reward", f"{outcome['reward']:+.2f} sd"),
            ("held-out metrics", f"{outcome['held_out']:+.2f} sd"), *_index(outcome),
            ("alarms", ", ".join(map(str, outcome["alarms"])) or "none"), ("rollbacks", str(outcome["rollbacks"])),
            ("steps without a usable gradient", str(outcome["skipped"])), ("audited images", str(outcome["images"])),
        ]  # fmt: skip
    events = [(line["step"], line["event"], line["reason"]) for line in _lines(directory, "event")]
    return Section("Run", render("tuning_run.html", facts=facts, events=events, recipe=dotted(run["recipe"])))


def curves(directory: Path, rows: int) -> Section | None:
    """Trained reward, held-out metrics and hacking index with stages and alarms; the metrics' groups; the training steps."""
    audits, steps = _lines(directory, "audit"), _lines(directory, "train")
    if not audits:
        return None
    alarms = [line["step"] for line in audits if line["alarm"]]
    stages = _stages(audits, steps)
    panels = []
    if any(line.get("closure") is not None for line in audits):
        note = "share of the way from the start to the references that is done; dashed: a stage begins; red: alarm"
        panels.append(_panel("Gap closure", note, audits, CLOSURES, stages, alarms, "gap closure"))
    names = {"trained reward": "reward", "held-out metrics": "held_out"}
    names |= {} if panels else {"hacking index": "hacking_index"}  # of earlier versions, in sd
    panels.append(_panel("Reward and held-out metrics", "in sd over images since the start; dashed: a stage begins; red: alarm",
                         audits, names, stages, alarms, "sd"))  # fmt: skip
    groups = {name.removeprefix("held_out_"): name for name in audits[-1] if name.startswith("held_out_")}
    if groups:
        panels.append(_panel("Held-out metrics by group", "mean change, larger = better", audits, groups, stages, alarms, "sd"))
    if steps:
        rise = _thinned(steps)
        note = "the stage's reward in its z-units, each batch"
        panels.append(_panel("Training", note, rise, {"reward": "reward"}, stages, [], "reward"))
        panels.append(_panel("Gradient", "norm before clipping", rise, {"norm": "norm"}, stages, [], "norm"))
    return Section("Curves", render("panels.html", panels=panels, legend=""))


def comparison(directory: Path, rows: int) -> Section | None:
    """Each figure at the start and of the best network, with its interval over images."""
    outcome = _summary(directory)
    if not outcome:
        return None
    table = [
        [
            row["metric"], row["group"] if row["counts"] else f"{row['group']} (shown only)", "↑" if row["better"] > 0 else "↓",
            f"{row['start']:.4g}", f"{row['end']:.4g}", f"{row['difference']:+.3g}", _interval(row["low"], row["high"]),
            f"{100 * row['won']:.0f} %",
        ]
        for row in outcome["metrics"]
    ]  # fmt: skip
    return Section(
        "Start and end",
        render("tuning_table.html", rows=table, images=outcome["images"], network=_network(outcome), over=_over(outcome)),
    )


def gallery(directory: Path, rows: int) -> Section | None:
    """Images before and after, their difference and the reward model's maps; of an unfinished run, its newest sheet."""
    outcome = _summary(directory)
    if outcome:
        shown = [
            [(LABELS[name], data_uri((directory / "examples" / f"{number}-{name}.webp").read_bytes())) for name in names]
            for number, names in enumerate(outcome["examples"][:rows])
        ]
        return Section("Pictures", render("tuning.html", rows=shown, network=_network(outcome)))
    sheets = sorted((directory / "sheets").glob("step-*.webp"))
    if not sheets:
        return None
    return Section("Pictures", render("tuning.html", rows=[[(sheets[-1].stem, data_uri(sheets[-1].read_bytes()))]], network=""))


def _network(outcome: Mapping[str, Any]) -> str:
    """The network that the figures are of: the one given to be audited, or the best of the tuning run."""
    if "audited" in outcome:
        return str(outcome["audited"]["name"])
    return f"the one saved as best.safetensors (step {outcome['best_step']})"


def _index(outcome: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The hacking index: in gap closure, or in the sd of earlier versions."""
    index = outcome.get("hacking_index")
    if "verdict" not in outcome:
        return [("hacking index", f"{index:+.2f} sd")]
    if index is None:
        return []
    return [("hacking index", f"{index:+.2f} {_interval(outcome['hacking_index_low'], outcome['hacking_index_high'], '+.2f')}")]


def _standing(directory: Path, outcome: Mapping[str, Any] | None) -> list[str]:
    """What can be said without the audit's verdict."""
    if outcome:
        alarms = f"Alarms at the steps {', '.join(map(str, outcome['alarms']))}" if outcome["alarms"] else "No alarm"
        changes = f"trained reward {outcome['reward']:+.2f} sd, held-out metrics {outcome['held_out']:+.2f} sd"
        return [f"{alarms}; {changes}.", "An earlier version made this run: its summary has no verdict."]
    audits = _lines(directory, "audit")
    last = f"The last audit was at step {audits[-1]['step']}." if audits else "There was no audit yet."
    return ["The run is not finished: the same command goes on.", last]


def _usefulness(control: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The comparison with the anchor-only control, as the template takes it."""
    if not control:
        return None
    rows = [
        (
            row["figure"], *(f"{row[name]:+.3f}" for name in ("tuned", "control", "difference")),
            _interval(row["low"], row["high"], "+.3f"),
        )
        for row in control["figures"]
    ]  # fmt: skip
    return {"note": control["words"], "rows": rows}


def _over(outcome: Mapping[str, Any]) -> str:
    """What intervals are over: photographs, or images in runs of earlier versions."""
    if "photographs" not in outcome:
        return "images"
    chosen = "" if outcome["split"] == outcome["selected_on"] else f", which chose nothing (split {outcome['split']})"
    return f"{outcome['photographs']} photographs{chosen}"


def _label(row: Mapping[str, Any]) -> str:
    name = row["figure"] if row["role"] != "trained" else "trained reward"
    kind = {"no vote": " (no vote)", "judge": " (independent)", "index": " (counts)"}.get(row["role"], "")
    return f"{name}{kind}"


def _interval(low: float | None, high: float | None, form: str = "+.3g") -> str:
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _panel(
    name: str, note: str, lines: Sequence[Mapping[str, Any]], names: Mapping[str, str], stages: Mapping[float, str],
    alarms: Sequence[float], axis: str,
) -> tuple[str, str, str]:  # fmt: skip
    series = {label: found for label, key in names.items() if (found := _series(lines, key))[0]}
    return name, note, charts.lines(series, stages, alarms, y=axis) + charts.legend(list(series))


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
