"""Report on a reward model's run: verdict, training curves, scores, maps, recipe."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.report import charts
from fgr.report.section import Section, data_uri, dotted, render
from fgr.training import directory as runs

PICTURES = ("reference", "composite", "target", "predicted")
FIGURES = ("ap", "cc", "triplets", "sham")


def title(directory: Path) -> str:
    """The page's title."""
    return f"{runs.read(directory)['recipe']['name']} – reward model"


def verdict(directory: Path, rows: int) -> Section:
    """What the validation of the newest phase says, in words, and how far the run is."""
    phases = list(_by_phase(directory).values())
    validated = [line for line in phases[-1] if line["split"] == "validation"] if phases else []
    words = [_in_words(min(validated, key=lambda line: line["total"]))] if validated else ["Nothing was validated yet."]
    if (directory / "examples.json").is_file():
        words.append(
            "Validation chose these weights, so its figures flatter them; fgr evaluate --reward measures the test split."
        )
    else:
        words.append("The run is not finished: the same command goes on.")
    return Section("Verdict", render("verdict.html", words=words))


def _in_words(line: Mapping[str, Any]) -> str:
    """A validation's figures as a sentence."""
    said = []
    if line.get("triplets") is not None:
        said.append(f"{100 * line['triplets']:.0f} % of triplets are in order (SR image < composite < reference; by chance 17 %)")
    if line.get("ap") is not None:
        said.append(f"maps find the labelled pixels with an average precision of {line['ap']:.2f}")
    if line.get("cc") is not None:
        said.append(f"they correlate with the labels by {line['cc']:.2f}")
    if line.get("planted") is not None:
        said.append(f"{100 * line['planted']:.0f} % of planted defects lower the score and raise the map")
    if line.get("sham") is not None:
        said.append(f"maps that should be empty have a mean of {line['sham']:.3f}")
    where = f"{line['phase']}, as of step {line['step']}"
    return f"{where}: {'; '.join(said) or 'loss ' + format(line['total'], '.3f')}."


def summary(directory: Path, rows: int) -> Section:
    """Each phase's last validation, data, and the recipe, folded."""
    run = runs.read(directory)
    phases = [_phase(name, lines) for name, lines in _by_phase(directory).items()]
    return Section("Run", render("recipe.html", data=run["facts"]["data"], recipe=dotted(run["recipe"]), phases=phases))


def curves(directory: Path, rows: int) -> Section | None:
    """Losses and validation figures over the steps of the whole run; vertical lines begin a phase."""
    starts, series, at = [], {name: ([], []) for name in ("training", "validation", *FIGURES)}, 0  # type: ignore[var-annotated]
    for lines in _by_phase(directory).values():
        starts.append(at)
        for line in lines:
            values = {"training" if line["split"] == "train" else "validation": line.get("total")}
            values |= {name: line.get(name) for name in FIGURES} if line["split"] == "validation" else {}
            for name, value in values.items():
                if value is not None:
                    series[name][0].append(at + line["step"])
                    series[name][1].append(value)
        at += max(line["step"] for line in lines)
    if not starts:
        return None
    losses = {name: thinned(series[name]) for name in ("training", "validation")}
    figures = {name: series[name] for name in FIGURES if series[name][0]}
    panels = [("Loss", "vertical lines begin a phase", charts.lines(losses, starts, y="loss") + charts.legend(list(losses)))]
    if figures:
        drawn = charts.lines(figures, starts, y="figure") + charts.legend(list(figures))
        panels.append(("Validation", "map AP and CC, triplets in order, mean map of sham rows", drawn))
    return Section("Curves", render("panels.html", panels=panels, legend=""))


def scores(directory: Path, rows: int) -> Section | None:
    """Predicted scores of composites against the dataset's scores, and how often a triplet is in order."""
    examples = _examples(directory)
    if not examples:
        return None
    partial = [row for row in examples["rows"] if row["mask_kind"] not in ("sham", "full")]
    right = sum(row["score_sr"] < row["score"] < row["score_reference"] for row in partial)
    note = f"{right} of {len(partial)} triplets in order: SR image < composite < reference"
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in examples["rows"]:
        groups.setdefault(row["model"], []).append((row["label"], row["score"]))
    drawn = charts.scatter(groups, x="the dataset's score", y="predicted score") + charts.legend(list(groups))
    panels = [("Score of composites", note, drawn)]
    return Section("Scores", render("panels.html", panels=panels, legend=""))


def gallery(directory: Path, rows: int) -> Section | None:
    """Validation rows whose maps came out best and worst, and those that should be empty."""
    examples = _examples(directory)
    if not examples:
        return None
    by_id = {row["id"]: row for row in examples["rows"]}
    shown = [
        (name, [by_id[one] | {"pictures": _pictures(directory, one)} for one in ids[:rows]])
        for name, ids in examples["groups"].items()
        if ids
    ]
    return Section("Maps", render("training.html", groups=shown))


def rounds(directory: Path, rows: int) -> Section | None:
    """How far networks that were tuned against the model of each mined round moved, by its reward and by other figures."""
    found = sorted(directory.glob(".fgr/round-*/tuned-*/summary.json"), key=lambda path: path.parts[-3:-1])
    tuned = [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in found]
    table, drawn = [], []
    for run, outcome in tuned:
        if "closures" in outcome:  # tuned by an earlier version otherwise
            number = int(run.parent.name.removeprefix("round-"))
            name = runs.read(run)["facts"]["generator"]["name"]
            table.append((number, name, *_closed(outcome), bool(outcome["final_alarms"])))
            own = next(row for row in outcome["closures"] if row["role"] == "trained")
            numbers = (math.nan if own[end] is None else own[end] for end in ("value", "low", "high"))
            drawn.append((f"round {number}: {name}", *numbers, list(own["photographs"].values())))
    if not table:
        return None
    chart = charts.dots(drawn, {0.0: "start", 1.0: "references"})  # type: ignore[arg-type]
    return Section("Mined rounds", render("training_rounds.html", rows=table, chart=chart))


def _closed(outcome: Mapping[str, Any]) -> list[str]:
    names = ("closure", "closure_full_reference", "hacking_index", "ceiling")
    return ["–" if outcome.get(name) is None else f"{outcome[name]:+.2f}" for name in names]


def _by_phase(directory: Path) -> dict[str, list[dict[str, Any]]]:
    phases: dict[str, list[dict[str, Any]]] = {}
    for line in runs.metrics(directory):
        phases.setdefault(line["phase"], []).append(line)
    return phases


def _phase(name: str, lines: list[dict[str, Any]]) -> list[str]:
    empty: dict[str, Any] = {}
    last = next((line for line in reversed(lines) if line["split"] == "validation"), empty)
    cells = [f"{last[key]:.3f}" if isinstance(last.get(key), float) else "–" for key in ("total", *FIGURES)]
    return [name, str(max(line["step"] for line in lines)), *cells]


def thinned(series: tuple[list[int], list[float]], most: int = 400) -> tuple[list[float], list[float]]:
    """Means over equal runs of points, so that a long curve stays small."""
    width = max(1, len(series[0]) // most)
    parts = [range(start, min(start + width, len(series[0]))) for start in range(0, len(series[0]), width)]
    steps, values = ([sum(axis[i] for i in part) / len(part) for part in parts] for axis in series)
    return steps, values


def _examples(directory: Path) -> dict[str, Any] | None:
    path = directory / "examples.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _pictures(directory: Path, name: str) -> dict[str, str]:
    files = {key: directory / "examples" / f"{name}-{key}.webp" for key in PICTURES}
    return {key: data_uri(path.read_bytes()) for key, path in files.items() if path.is_file()}
