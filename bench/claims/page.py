"""docs/claims.md and its pictures, from a finished plan or, before there is one, from the protocol alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.claims import figures, report, tables
from bench.claims.protocol import ARMS, CLAIMS, Protocol
from fgr import atomic
from fgr.images import codec

DOCS = Path(__file__).parents[2] / "docs"
INTRO = """# The three claims, tested

FinPercep-RM's paper claims that a fine-grained reward localises defects better, that used directly it is unstable while the
curriculum (CCL) is stable, and that a global IQA reward gets hacked while this one does not. `bench/claims/` tests the three with
seeds and controls:

```sh
make claims SOURCE=photos              # 36 minutes on 2 CPU cores; goes on where it was interrupted
make claims SOURCE=photos TIER=gpu OUT=out/claims-gpu
```

`SOURCE` is a folder of photographs (here: the 24 Kodak images and 15 of Unsplash's). They are dealt to four disjoint parts – the
reward model's, the gold reward model's, the tuned network's inputs, and the test set; one SR engine and the gold reward model are
held out. `bench/claims/protocol.yaml` fixes arms, seeds, measures, thresholds, verdict rules and the text of every outcome before
the first run. `out/claims/report.html` has every figure with the files that it comes from; `python -m bench.claims compare A B`
tells whether two runs agree in all their numbers.
"""
HEAT = "As fixed before the first run. “Heat” is what the rest of the documentation calls map severity: the pooled map of RM."


def write(protocol: Protocol, out: Path | None, docs: Path = DOCS) -> Path:
    """Write DOCS/claims.md, and with a finished plan's folder `out` the pictures that it shows."""
    parts = [INTRO, *_arms(protocol)]
    if out is None:
        parts += ["## Results", "", "The plan has not been run yet.", ""]
    else:
        parts += _results(protocol, out, docs)
    parts += ["## What this cannot show", "", *(f"- {limit}" for limit in protocol.limits), "", "## Rules", "", HEAT, ""]
    parts += [line for name in CLAIMS for line in (f"**{protocol.texts[name].statement}** {protocol.rules[name].strip()}", "")]
    parts += [f"Intervals: {protocol.intervals.strip()}"]
    path = docs / "claims.md"
    atomic.write_text(path, "\n".join(parts).rstrip() + "\n")
    return path


def _arms(protocol: Protocol) -> list[str]:
    rows = [f"| {name} | {protocol.arms[name].title} |" for name in ARMS]
    return ["## Arms", "", f"{len(protocol.tuning.seeds)} seeds each on the CPU.", "", "| arm | |", "|---|---|", *rows, ""]


def _results(protocol: Protocol, out: Path, docs: Path) -> list[str]:
    numbers = report.read_numbers(out)
    found, decided = figures.opened(numbers), report.decide(numbers, protocol)
    parts = ["## Verdicts", "", "| claim | verdict | effect |", "|---|---|---|"]
    for name in CLAIMS:
        parts.append(
            f"| {protocol.texts[name].statement} | **{decided[name].verdict}** | {tables.interval(decided[name].effect)} |"
        )
    notes = Path(__file__).with_name(f"notes-{protocol.tier}.md")  # what was seen in the run that the page shows
    parts += ["", *(notes.read_text(encoding="utf-8").splitlines() if notes.is_file() else ()), ""]
    shown = {
        "claim1": (list(tables.claim1(found)), _maps(out, docs)),
        "claim2": (list(tables.claim2(found, protocol)), _curves(out, protocol, docs)),
        "claim3": (list(tables.claim3(found)), _tuned(out, protocol, docs)),
    }
    for name, (found_tables, pictures) in shown.items():
        texts, one = protocol.texts[name], decided[name]
        parts += [f"## {texts.statement}", "", f"**{one.verdict}.** {getattr(texts, one.verdict)} {one.why}", ""]
        conditions = [(condition.text, condition.found, "yes" if condition.holds else "no") for condition in one.conditions]
        parts += _table(("needed for “confirmed”", "found", "holds"), conditions)
        for table in found_tables:
            parts += [f"{table.title}. {table.note}", "", *_table(table.header, table.rows)]
        parts += [*pictures, ""]
    parts += ["## More", ""]
    for table in tables.extras(found):
        parts += [f"{table.title}. {table.note}", "", *_table(table.header, table.rows)]
    return parts


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [*("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines), ""]


def _maps(out: Path, docs: Path) -> list[str]:
    folder = out / "maps-rm-1" / "pictures"
    stems = sorted(path.name.removesuffix("-composite.webp") for path in folder.glob("*-0-composite.webp"))
    names = ("composite", "target", "RM_N", "RM_0_gradient", "flatness")
    rows = [[folder / f"{stem}-{name}.webp" for name in names] for stem in stems]
    _montage(docs / "images" / "claims-1.webp", rows)
    label = "Composite, target map, RM_N's map, RM_0's input gradient, flatness, a row an SR engine"
    return [f"![{label}](images/claims-1.webp)"]


def _tuned(out: Path, protocol: Protocol, docs: Path) -> list[str]:
    seed = protocol.tuning.seeds[0]
    arms = [arm for arm in report.SHOWN if (out / f"tune-{arm}-{seed}" / "pictures").is_dir()]
    rows = [[out / f"tune-{arm}-{seed}" / "pictures" / f"0-{name}.webp" for name in report.VIEWS] for arm in arms]
    _montage(docs / "images" / "claims-3.webp", rows)
    label = f"Reference, before, after, difference ×8, RM_N's map after; a row an arm: {', '.join(arms)}"
    return [f"![{label}](images/claims-3.webp)"]


def _curves(out: Path, protocol: Protocol, docs: Path) -> list[str]:
    drawn = report.curve_chart(out, protocol, figures.YARDSTICK).partition("</svg>")[0]
    colours = "--c1:#2a6fdb;--c2:#d9541e;--c3:#2b9348;--c4:#8338ec;--c5:#b5179e;--c6:#6c757d"
    style = f"<style>svg{{{colours};background:#fff}}text{{font:10px sans-serif;fill:#63676e}}</style>"
    head, _, body = drawn.partition(">")
    atomic.write_text(docs / "images" / "claims-2.svg", f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}</svg>\n')
    label = "RM_N on the test crops over the steps: A-1 blue, A0 orange, A1 green, A2 violet, A3 magenta, A5 grey"
    return [f"![{label}](images/claims-2.svg)"]


def _montage(path: Path, rows: Sequence[Sequence[Path]], side: int = 160) -> None:
    """Pictures in a grid, each `side` pixels high and wide."""
    white: Any = (255, 255, 255)
    cells = [
        [cv2.resize(codec.decode_rgb(file.read_bytes()), (side, side), interpolation=cv2.INTER_AREA) for file in row]
        for row in rows
    ]
    bordered = [[cv2.copyMakeBorder(cell, 0, 4, 0, 4, cv2.BORDER_CONSTANT, value=white) for cell in row] for row in cells]
    atomic.write_bytes(path, codec.encode_rgb(np.concatenate([np.concatenate(row, 1) for row in bordered])))
