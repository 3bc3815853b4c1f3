"""The commands `fgr generate`, `fgr verify` and `fgr models`."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fgr.cli.options import Devices, Overrides, Seed, listed, load_recipe
from fgr.cli.shell import echo, echo_lines

Recipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="A YAML file or a shipped recipe: fgr30k, fgr30k-paper, demo.")
]


def generate(
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    models: Annotated[str | None, typer.Option(help="SR models, comma-separated; `fgr models` lists them.")] = None,
    source: Annotated[str | None, typer.Option(help="Folder of photographs, dataset directory, Hub id, or embedded.")] = None,
    out: Annotated[Path, typer.Option(help="The dataset directory to make, or to go on with.")],
    limit: Annotated[int | None, typer.Option(help="Samples to make (the recipe's `samples`).")] = None,
    seed: Seed = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster (RAY_ADDRESS, or a local one).")
    ] = "local",
    workers: Annotated[
        int, typer.Option(help="Workers; 0 = one for each CUDA device or CPU core of the machine or cluster.")
    ] = 0,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Make every N-th shard from I (0-based) on: for job arrays.")] = "0/1",
    device: Devices = "auto",
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be made, and all that stands against it, within seconds; make nothing.")
    ] = False,
) -> None:
    """Photographs in, a dataset that load_dataset opens out.

    RECIPE defaults to fgr30k, the paper's set with maps that see lattices (needs DINOv3 weights; fgr30k-paper: the paper's
    maps); `fgr generate demo --out DIR` needs nothing but the packages. Running the same command again resumes.
    """
    options = {"models": listed(models) or None, "source.path": source, "samples": limit, "seed": seed}
    chosen = load_recipe(recipe, "generate", overrides, options)
    part = _part(shard)
    if plan:
        _show_plan(chosen, out, device, workers)
        return

    from fgr.api import generate_dataset

    whole = generate_dataset(chosen, out, engine=engine, workers=workers, shard=part, device=device)
    if not whole:
        echo(f"Shard {shard} is done; others are still to come.", err=True)
        return
    echo(f'load_dataset("{out}", "samples")')


def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory.")],
    replay: Annotated[
        int, typer.Option(help="Replay the degradation and SR of this many rows and compare with their sr and maps.")
    ] = 0,
    device: Devices = "auto",
) -> None:
    """Check every promise of a dataset: exit 1 and the rows that break one.

    Rows made on another GPU, or by other libraries, are replayed as near as this machine allows, which is said of each.
    """
    from fgr.dataset import verify as checks

    problems = 0
    for problem in checks.verify(directory):
        problems += 1
        echo(str(problem))
    replayed: Counter[str] = Counter()
    if replay:
        from fgr.generate import replay as replaying

        for result in replaying.replay(directory, replay, device):
            replayed[type(result).__name__] += 1
            if result is not None:
                echo(str(result))
    problems += replayed["Problem"]
    if problems:
        echo(f"fgr: {directory}: {problems} broken promise{'s' if problems > 1 else ''}.", err=True)
        raise typer.Exit(1)
    exactly = f"; {replayed['NoneType']} rows replayed exactly" if replay else ""
    nearly = f", {replayed['Inexact']} as nearly as this machine can" if replayed["Inexact"] else ""
    echo(f"{directory}: every promise holds{exactly}{nearly}")


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME…", help="Only these; folder:DIR, spandrel:PATH_OR_HUB_FILE and timm:BACKBONE too."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the weights of the named models; interrupted downloads resume.")
    ] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the sources of what is fetchable: it may be gated or gone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """The SR models: name, family, scale, licence, state of the weights (here, fetchable, gated, gone), from where, digest, note.

    Some weights are read from installed packages, or fetched from the package index with pip, without installing anything. The
    others lie in FGR_WEIGHTS (default: fgr/weights in the user's cache), where you may put them yourself; HF_HUB_OFFLINE=1
    forbids the network.
    """
    from fgr.sr.catalogue import catalogue
    from fgr.sr.fetch import fetch as bring

    if fetch and not names:
        raise typer.BadParameter("name the models to fetch, for example: fgr models swinir hat --fetch", param_hint="--fetch")
    for name in (names or []) if fetch else []:
        bring(name)
    rows = catalogue(names or [], ask)
    if as_json:
        echo_lines(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        for line in _lines(row):
            echo(line)


def _show_plan(recipe: Any, out: Path, device: str, workers: int) -> None:
    """Print what a run is going to do. UserError with all that stands against it."""
    from fgr.generate.preflight import forecast

    expected = forecast(recipe, out, device, workers)
    for line in expected.lines:
        echo(line)
    for warning in expected.warnings:
        echo(f"fgr: {warning}", err=True)
    if expected.refusal:
        raise expected.refusal


def _part(text: str) -> tuple[int, int]:
    index, slash, total = text.partition("/")
    if not (slash and index.isdigit() and total.isdigit() and 0 <= int(index) < int(total)):
        raise typer.BadParameter(f"'{text}' is not I/N with 0 ≤ I < N, for example 0/16.", param_hint="--shard")
    return int(index), int(total)


def _lines(row: dict[str, Any]) -> list[str]:
    scale = f", ×{row['scale']}" if row["scale"] else "" if row["name"].startswith("timm:") else ", any scale"
    lines = [f"{row['name']}  –  {row['family']}{scale}, licence: {row['license']}{_limits(row)}"]
    lines += [
        f"    {key:8} {row[key]}" for key in ("state", "from", "weights", "where", "digest", "pinned", "cost", "note") if row[key]
    ]
    return lines


def _limits(row: dict[str, Any]) -> str:
    """What the licence says of a dataset of the model's outputs, where that is not a plain yes."""
    if False in (row["train_on_outputs"], row["redistribute"]):
        return " (limits the samples: the recipe must name it in accept_license)"
    return "" if row["train_on_outputs"] and row["redistribute"] else " (says nothing known of outputs)"
