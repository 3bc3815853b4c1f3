"""report.html of the whole plan, opened offline, and verdicts from numbers.json."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import figures, tables, verdicts
from bench.claims.protocol import CLAIMS, Protocol
from fgr import atomic
from fgr.report import charts
from fgr.report.section import Section, render
from fgr.training import directory as runs

SHOWN = ("A0", "A1", "A2", "A5")  # arms of the pictures
VIEWS = {"reference": "reference", "before": "before", "after": "after", "difference": "difference ×8", "map_after": "RM_N after"}


def decide(numbers: Mapping[str, Any], protocol: Protocol) -> dict[str, verdicts.Verdict]:
    """The verdict on each claim."""
    limits, found = protocol.thresholds, figures.opened(numbers)
    return {
        "claim1": verdicts.claim1(found["claim1"], limits.claim1, limits.instruments),
        "claim2": verdicts.claim2(found["claim2"], limits.claim2, limits.instruments),
        "claim3": verdicts.claim3(found["claim3"], limits.claim3, limits.instruments),
    }


def write(out: Path, protocol: Protocol, numbers: Mapping[str, Any], spent: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write OUT/report.html."""
    found, decided = figures.opened(numbers), decide(numbers, protocol)
    sections = [Section("Verdicts", "".join(_verdict(name, decided[name], protocol) for name in CLAIMS))]
    parts = {
        "Claim 1": (tables.claim1(found), _maps(out)),
        "Claim 2": (tables.claim2(found, protocol), _curves(out, protocol)),
        "Claim 3": (tables.claim3(found), _tuned(out, protocol)),
        "More": (tables.extras(found), _attacked(out)),
    }
    sections += [Section(name, "".join(map(_table, part)) + pictures) for name, (part, pictures) in parts.items()]
    sections.append(Section("What this cannot show", _list(protocol.limits)))
    sections.append(Section("Protocol", _protocol(protocol, numbers, spent)))
    path = out / "report.html"
    atomic.write_text(path, render("page.html", title="The three claims, tested", sections=sections))
    return path


def _verdict(name: str, found: verdicts.Verdict, protocol: Protocol) -> str:
    texts = protocol.texts[name]
    rows = [(condition.text, condition.found, "yes" if condition.holds else "no") for condition in found.conditions]
    table = tables.Table("", "", ("condition of “confirmed”", "found", "holds"), rows, [])
    head = f"<h3>{escape(texts.statement)}</h3><p><b>{found.verdict}</b> – {escape(getattr(texts, found.verdict))}</p>"
    return f'<div class="card">{head}<p>{escape(found.why)}</p>{_cells(table)}</div><p></p>'


def _table(table: tables.Table) -> str:
    files = " ".join(f'<a href="{escape(file, quote=True)}">{escape(file)}</a>' for file in table.files)
    source = f'<details class="soft"><summary>from {len(table.files)} files</summary>{files}</details>'
    return (
        f'<h3>{escape(table.title)}</h3><p class="soft">{escape(table.note)}</p><div class="card">{_cells(table)}{source}</div>'
    )


def _cells(table: tables.Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _protocol(protocol: Protocol, numbers: Mapping[str, Any], spent: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [(kind, str(one["jobs"]), f"{one['processor'] / 60:.1f} min") for kind, one in spent.items()]
    cost = tables.Table("What it took", "Processor time of one thread.", ("jobs", "number", "time"), rows, [])
    changed = [f"{one.date}: {one.key} from {one.before} to {one.after} – {one.why}" for one in protocol.amendments]
    parts = ", ".join(f"{name} {count}" for name, count in numbers["photographs"].items())
    head = f"<p>Tier {escape(protocol.tier)}, digest <code>{protocol.digest}</code>. Photographs: {escape(parts)}.</p>"
    rules = "".join(f"<p><b>{escape(name)}.</b> {escape(rule)}</p>" for name, rule in protocol.rules.items())
    return head + rules + f"<p>{escape(protocol.intervals)}</p><h3>Amendments</h3>" + _list(changed or ["none"]) + _table(cost)


def _maps(out: Path) -> str:
    rows = []
    for stem in sorted((out / "maps-rm-1" / "pictures").glob("*-composite.webp")):
        base = stem.name.removesuffix("-composite.webp")
        files = sorted(stem.parent.glob(f"{base}-*.webp"), key=lambda path: (path != stem, path.name))
        rows.append([(f"{base} {path.stem.removeprefix(base)[1:]}".replace("_", " "), data(path)) for path in files])
    return _gallery(rows)


def _tuned(out: Path, protocol: Protocol) -> str:
    rows = []
    for number in range(protocol.measures.pictures):
        for arm in SHOWN:
            folder = out / f"tune-{arm}-{protocol.tuning.seeds[0]}" / "pictures"
            files = {label: folder / f"{number}-{name}.webp" for name, label in VIEWS.items()}
            if all(path.is_file() for path in files.values()):
                rows.append([(f"{arm}: {label}", data(path)) for label, path in files.items()])
    return _gallery(rows)


def _attacked(out: Path) -> str:
    folder = out / "attack" / "pictures"
    labels = ("before", "after", "difference")
    rows = [[(f"{name} raised: {label}", data(folder / f"{name}-{label}.webp")) for label in labels] for name in ("RM_0", "RM_N")]
    return _gallery(rows)


def _gallery(rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    return render("tuning.html", rows=rows, best=None) if rows else ""


def _curves(out: Path, protocol: Protocol) -> str:
    panels = [
        ("Yardstick", "RM_N on the test crops, sd over images, mean over seeds", curve_chart(out, protocol, figures.YARDSTICK))
    ]
    panels.append(("Gold reward model", "held out", curve_chart(out, protocol, figures.GROUPS["gold"])))
    panels.append(("Naturalness", "NIQE, held out", curve_chart(out, protocol, figures.GROUPS["naturalness"])))
    return render("panels.html", panels=panels, legend="")


def curve_chart(out: Path, protocol: Protocol, key: str) -> str:
    """Means over seeds of an audit figure by arm, with their names."""
    series = {}
    for arm in ("A-1", "A0", "A1", "A2", "A3", "A5"):
        found = [
            [(line["step"], line[key]) for line in runs.metrics(out / f"tune-{arm}-{seed}") if line.get("split") == "audit"]
            for seed in protocol.tuning.seeds
        ]
        shortest = min(map(len, found))
        values = np.array([one[:shortest] for one in found]).mean(0)
        series[arm] = (values[:, 0].tolist(), values[:, 1].tolist())
    return charts.lines(series, y="mean over seeds") + charts.legend(list(series))


def data(path: Path) -> str:
    """A picture as a data address."""
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"


def read_numbers(out: Path) -> Any:
    """What OUT/numbers.json holds."""
    return json.loads((out / "numbers.json").read_text(encoding="utf-8"))
