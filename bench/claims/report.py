"""report.html of the whole plan, opened offline, and verdicts from numbers.json."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from bench.claims import figures, plan, tables, verdicts
from bench.claims.protocol import CLAIMS, COMPARED, Protocol, Unit
from fgr import atomic
from fgr.report import charts
from fgr.report.section import Section, render

VIEWS = {"reference": "reference", "before": "before", "after": "after", "difference": "difference ×8", "map_after": "RM_N after"}
MAPS = ("composite", "target", "RM_N", "RM_0_gradient", "RM_0_windows", "flatness")


def decide(numbers: Mapping[str, Any], protocol: Protocol) -> dict[str, verdicts.Verdict]:
    """The verdict on each claim."""
    return verdicts.decide(figures.opened(numbers)["families"]["paper"], protocol.thresholds)


def write(out: Path, protocol: Protocol, numbers: Mapping[str, Any], spent: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write OUT/report.html."""
    found, decided = tables.of_claims(figures.opened(numbers), protocol), decide(numbers, protocol)
    sections = [Section("Verdicts", "".join(_verdict(name, decided[name], protocol) for name in CLAIMS))]
    shown = {"claim1": gallery(_maps(out, protocol)), "claim2": curves(out, protocol), "claim3": gallery(_tuned(out, protocol))}
    sections += [
        Section(f"Claim {number}", "".join(map(_table, found[name])) + shown[name]) for number, name in enumerate(CLAIMS, start=1)
    ]
    sections.append(Section("What this cannot show", _list([*protocol.cannot, *protocol.limits])))
    sections.append(Section("Protocol", _protocol(protocol, numbers, spent)))
    path = out / "report.html"
    atomic.write_text(path, render("page.html", title="The three claims, tested", sections=sections))
    return path


def planned(protocol: Protocol) -> str:
    """What the plan has, how long it takes by the protocol's estimates, its power, and what it cannot show."""
    jobs = plan.jobs(protocol, "SOURCE")
    minutes = plan.estimate(jobs, protocol.seconds, protocol.workers)
    lines = [
        f"Tier {protocol.tier}: {len(jobs)} jobs, {protocol.workers} at a time on {protocol.device}, about {minutes:.0f} minutes."
    ]
    for kind in dict.fromkeys(job.kind for job in jobs):
        lines.append(f"  {kind:16}{sum(job.kind == kind for job in jobs):5} × {protocol.seconds.get(kind, 0):g} s")
    power = tables.power(protocol)
    lines += [power.note, *(f"  {row[0]}: effect {row[1]}, power {row[3]}, {row[4]} after Holm" for row in power.rows)]
    return "\n".join([*lines, "It cannot show:", *(f"  {one}" for one in (*protocol.cannot, *protocol.limits))])


def _verdict(name: str, found: verdicts.Verdict, protocol: Protocol) -> str:
    texts = protocol.texts[name]
    rows = [(condition.text, condition.found, "yes" if condition.holds else "no") for condition in found.conditions]
    table = tables.Table("", "", ("condition of “confirmed”", "found", "holds"), rows)
    head = f"<h3>{escape(texts.statement)}</h3><p><b>{found.verdict}</b> – {escape(getattr(texts, found.verdict))}</p>"
    return f'<div class="card">{head}<p>{escape(found.why)}</p>{_cells(table)}</div><p></p>'


def _table(table: tables.Table) -> str:
    files = " ".join(f'<a href="{escape(file, quote=True)}">{escape(file)}</a>' for file in table.files)
    source = f'<details class="soft"><summary>from {len(table.files)} files</summary>{files}</details>' if table.files else ""
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
    cost = tables.Table("What it took", "Processor time of one thread.", ("jobs", "number", "time"), rows)
    changed = [f"{one.date}: {one.key} from {one.before} to {one.after} – {one.why}" for one in protocol.amendments]
    parts = ", ".join(f"{name} {count}" for name, count in numbers["photographs"].items())
    head = f"<p>Tier {escape(protocol.tier)}, digest <code>{numbers['protocol']}</code>. Photographs: {escape(parts)}.</p>"
    rules = "".join(f"<p><b>{escape(name)}.</b> {escape(rule)}</p>" for name, rule in protocol.rules.items())
    tail = f"<p>Intervals: {escape(protocol.intervals)}</p>{_table(tables.power(protocol))}"
    return head + rules + tail + "<h3>Amendments</h3>" + _list(changed or ["none"]) + _table(cost)


def first_unit(protocol: Protocol) -> Unit:
    """The reward model whose pictures are shown."""
    return protocol.units("paper")[0]


def map_pictures(out: Path, protocol: Protocol) -> list[list[tuple[str, Path]]]:
    """Composites with the maps that are compared, a row a composite: names and files."""
    folder = out / f"maps-{first_unit(protocol).name}" / "pictures"
    numbers = sorted(path.name.partition("-")[0] for path in folder.glob("*-composite.webp"))
    return [[(name.replace("_", " "), folder / f"{number}-{name}.webp") for name in MAPS] for number in numbers]


def tuned_pictures(out: Path, protocol: Protocol) -> list[list[tuple[str, Path]]]:
    """Outputs of the compared arms, a row an image and arm: names and files."""
    folder = out / f"judged-{first_unit(protocol).name}" / "pictures"
    rows = []
    for number in range(protocol.measures.pictures):
        for arm in COMPARED:
            files = {label: folder / arm / f"{number}-{name}.webp" for name, label in VIEWS.items()}
            if all(path.is_file() for path in files.values()):
                rows.append([(f"{arm}: {label}", path) for label, path in files.items()])
    return rows


def gallery(rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Pictures as rows with names."""
    return render("tuning.html", rows=rows, network="") if rows else ""


def _maps(out: Path, protocol: Protocol) -> list[list[tuple[str, str]]]:
    return [[(name, data(path)) for name, path in row] for row in map_pictures(out, protocol)]


def _tuned(out: Path, protocol: Protocol) -> list[list[tuple[str, str]]]:
    return [[(name, data(path)) for name, path in row] for row in tuned_pictures(out, protocol)]


def curves(out: Path, protocol: Protocol) -> str:
    """The yardstick over the steps, by arm."""
    note = f"R_N on the test crops, z-units, mean over reward models; the last {protocol.measures.measured} steps are measured"
    return render("panels.html", panels=[("Yardstick", note, curve_chart(out, protocol))], legend="")


def curve_chart(out: Path, protocol: Protocol) -> str:
    """Means over the deciding family's reward models of the yardstick by arm, with their names."""
    series = {}
    for arm in protocol.families["paper"].arms:
        done = [unit for unit in protocol.units("paper") if (out / f"tune-{arm}-{unit.name}").is_dir()]
        if not done:
            continue
        found = [figures.curve(out, arm, unit) for unit in done]
        shortest = min(len(steps) for steps, _ in found)
        means = np.mean([values[:shortest] for _, values in found], axis=0)
        series[arm] = (found[0][0][:shortest], means.tolist())
    return charts.lines(series, y="mean over reward models") + charts.legend(list(series))


def data(path: Path) -> str:
    """A picture as a data address."""
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"


def read_numbers(out: Path) -> Any:
    """What OUT/numbers.json holds."""
    return json.loads((out / "numbers.json").read_text(encoding="utf-8"))
