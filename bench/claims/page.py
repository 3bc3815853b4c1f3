"""docs/claims.md, its pictures and numbers, from a finished plan or, before there is one, from the protocol alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.claims import figures, plan, report, tables
from bench.claims.protocol import CLAIMS, PARTS, Protocol, load
from fgr import atomic
from fgr.images import codec

DOCS = Path(__file__).parents[2] / "docs"
INTRO = Path(__file__).with_name("page.md")  # with the numbers that it names in braces
QUALITY = 80  # of pictures that are looked at, not measured
UNRUN = "The second protocol has not been run yet: no verdict, no figure."
TIERS = ("cpu", "night", "gpu")


def write(protocol: Protocol, out: Path | None, docs: Path = DOCS) -> Path:
    """Write DOCS/claims.md, and with a finished plan's folder `out` the pictures that it shows and the numbers in it."""
    limits = protocol.thresholds
    named = {"units": limits.units, "measured": protocol.measures.measured, "photographs": limits.photographs}
    parts = [INTRO.read_text(encoding="utf-8").format(**named), *_design(protocol), "## Results", ""]
    parts += [UNRUN, ""] if out is None else _results(protocol, out, docs)
    parts += ["## What this cannot show", "", *_list(*protocol.cannot, *protocol.limits), "## Rules", ""]
    parts += ["As fixed before the first run; the names in code style are the thresholds of `bench/claims/protocol.yaml`.", ""]
    parts += [line for name in CLAIMS for line in (f"**{protocol.texts[name].statement}** {protocol.rules[name].strip()}", "")]
    parts += [f"Intervals: {protocol.intervals.strip()}"]
    path = docs / "claims.md"
    atomic.write_text(path, "\n".join(parts).rstrip() + "\n")
    return path


def _design(protocol: Protocol) -> list[str]:
    """Photographs, arms, tiers and power."""
    *counts, last = [protocol.photographs[part] for part in PARTS]
    text = [
        f"`SOURCE` is a folder of at least {sum(counts) + last} photographs ([where they are found](photos.md)), dealt to four "
        "disjoint parts – the reward models', the judge's, the tuned network's, the test – of "
        f"{', '.join(map(str, counts))} and {last} or more.",
        f"One SR engine is in the test set alone. Each reward model is trained on all but one of {protocol.folds} folds,",
        "by the recipe of the model that ships; in the tier `night` a small one from scratch stands beside it for contrast,",
        "without verdicts.",
        "",
    ]  # fmt: skip
    rows = [(name, arm.title) for name, arm in protocol.arms.items()]
    header = ("tier", "reward models", "jobs", "estimate", "what it cannot show beside the list below")
    text += ["## Arms", "", *_table(("arm", ""), rows), "## Tiers", "", *_table(header, [_tier(name) for name in TIERS])]
    power = tables.power(protocol)
    estimates = (
        "The estimate of `cpu` is by its run of 27 November 2026 (that of 28 November took 57 minutes), those of `night` and "
        "`gpu` are guesses; these have not been run."
    )
    return [*text, estimates, "", "## Power", "", power.note, "", *_table(power.header, power.rows)]  # fmt: skip


def _tier(name: str) -> tuple[str, ...]:
    protocol = load(name)
    jobs = plan.jobs(protocol, "")
    minutes = plan.estimate(jobs, protocol.seconds, protocol.workers)
    time = f"{minutes / 60:.0f} h" if minutes > 120 else f"{minutes:.0f} min"
    units = f"{len(protocol.units('paper'))} + {sum(1 for _ in protocol.all_units()) - len(protocol.units('paper'))} small"
    processes = f"{protocol.workers} processes" if protocol.workers > 1 else "one process"
    where = f"{time}, {processes}, {'GPU' if protocol.device == 'cuda' else 'CPU'}"
    return name, units, str(len(jobs)), where, " ".join(protocol.cannot) or "–"


def _results(protocol: Protocol, out: Path, docs: Path) -> list[str]:
    numbers = report.read_numbers(out)
    found, decided = tables.of_claims(figures.opened(numbers), protocol), report.decide(numbers, protocol)
    file = f"numbers/claims-{protocol.tier}.json"
    atomic.write_bytes(docs / file, (out / "numbers.json").read_bytes())
    parts = [f"Tier {protocol.tier}, protocol `{numbers['protocol']}`. Every figure of this part is in [{file}]({file}), "
             "by reward model too, under `by_unit`.", "", "| claim | verdict | effect |", "|---|---|---|"]  # fmt: skip
    for name in CLAIMS:
        effect = tables.interval(decided[name].effect)
        parts.append(f"| {protocol.texts[name].statement} | **{decided[name].verdict}** | {effect} |")
    notes = Path(__file__).with_name(f"notes-{protocol.tier}.md")  # what was seen in the run that the page shows
    parts += ["", *(notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else ()), ""]
    shown = {
        "claim1": _montage(docs, "claims-second-1.webp", report.map_pictures(out, protocol)),
        "claim2": _curves(out, protocol, docs),
        "claim3": _montage(docs, "claims-second-3.webp", report.tuned_pictures(out, protocol)),
    }  # fmt: skip
    for name in CLAIMS:
        texts, one = protocol.texts[name], decided[name]
        parts += [f"### {texts.statement}", "", f"**{one.verdict}.** {getattr(texts, one.verdict)} {one.why}", ""]
        conditions = [(condition.text, condition.found, "yes" if condition.holds else "no") for condition in one.conditions]
        parts += _table(("needed for “confirmed”", "found", "holds"), conditions)
        for table in found[name]:
            parts += [f"{table.title}. {table.note}", "", *_table(table.header, table.rows), f"From {_files(table)}.", ""]
        parts += [*shown[name], ""]
    return parts


def _list(*items: str) -> list[str]:
    return [*(f"- {item}" for item in items), ""]


def _files(table: tables.Table) -> str:
    first, *others = table.files
    return f"`{first}`" + (f" and {len(others)} like it; `report.html` links to each" if others else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines), ""]


def _curves(out: Path, protocol: Protocol, docs: Path) -> list[str]:
    drawn = report.curve_chart(out, protocol).partition("</svg>")[0]
    colours = "--c1:#2a6fdb;--c2:#d9541e;--c3:#2b9348;--c4:#8338ec;--c5:#b5179e;--c6:#6c757d"
    style = f"<style>svg{{{colours};background:#fff}}text{{font:10px sans-serif;fill:#63676e}}</style>"
    head, _, body = drawn.partition(">")
    name = "claims-second-2.svg"
    atomic.write_text(docs / "images" / name, f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}</svg>\n')
    arms = ", ".join(protocol.families["paper"].arms)
    return [f"![RM_N on the test crops over the steps, mean over reward models: {arms}](images/{name})"]


def _montage(docs: Path, name: str, rows: Sequence[Sequence[tuple[str, Path]]], side: int = 160) -> list[str]:
    """Pictures in a grid, each `side` pixels high and wide, and the line that shows it; nothing without pictures."""
    if not rows:
        return []
    white: Any = (255, 255, 255)
    cells = [
        [cv2.resize(codec.decode_rgb(file.read_bytes()), (side, side), interpolation=cv2.INTER_AREA) for _, file in row]
        for row in rows
    ]
    bordered = [[cv2.copyMakeBorder(cell, 0, 4, 0, 4, cv2.BORDER_CONSTANT, value=white) for cell in row] for row in cells]
    whole = np.concatenate([np.concatenate(row, 1) for row in bordered])
    encoded = cv2.imencode(".webp", whole[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    atomic.write_bytes(docs / "images" / name, encoded.tobytes())
    named = [[label.rpartition(": ") for label, _ in row] for row in rows]
    arms = ", ".join(dict.fromkeys(row[0][0] for row in named if row[0][0]))
    columns = ", ".join(label for *_, label in named[0])
    return [f"![{columns}; {f'in turn {arms}' if arms else 'a row each'}](images/{name})"]
