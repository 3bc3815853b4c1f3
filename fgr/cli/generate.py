"""`fgr generate` and `fgr verify`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fgr.cli import app

Recipe = Annotated[str | None, typer.Argument(metavar="RECIPE", help="A YAML file or a shipped recipe: fgr30k, demo.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change: map.alpha=1 seed=3.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


@app.command()
def generate(
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    models: Annotated[str | None, typer.Option(help="SR models, comma-separated; `fgr models` lists them.")] = None,
    source: Annotated[str | None, typer.Option(help="Folder of photographs, dataset directory, Hub id, or skimage.")] = None,
    out: Annotated[Path, typer.Option(help="The dataset directory to make, or to go on with.")],
    limit: Annotated[int | None, typer.Option(help="Samples to make (the recipe's `samples`).")] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster (RAY_ADDRESS, or a local one).")
    ] = "local",
    workers: Annotated[
        int, typer.Option(help="Workers; 0 = one for each CUDA device or CPU core of the machine or cluster.")
    ] = 0,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Make every N-th shard from I (0-based) on: for job arrays.")] = "0/1",
    device: Device = "auto",
) -> None:
    """Photographs in, a dataset that load_dataset opens out.

    RECIPE defaults to fgr30k, the paper's set (needs DINOv3 weights); `fgr generate demo --out DIR` needs nothing but the
    packages. Running the same command again resumes.
    """
    from fgr import recipe as recipes

    changes = list(overrides or [])
    if recipe and "=" in recipe:
        changes, recipe = [recipe, *changes], None
    options = {"models": models.split(",") if models else None, "source.path": source, "samples": limit}
    chosen = recipes.load(recipe, "generate", changes, options)
    part = _part(shard)

    from fgr.generate.run import generate as run

    whole = run(chosen, out, engine=engine, workers=workers, shard=part, device=device)
    if not whole:
        typer.echo(f"Shard {shard} is done; others are still to come.", err=True)
        return
    typer.echo(f'load_dataset("{out}", "samples")')


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory.")],
    replay: Annotated[int, typer.Option(help="Degrade and restore this many rows anew and compare with their sr.")] = 0,
    device: Device = "auto",
) -> None:
    """Check every promise of a dataset: exit 1 and the rows that break one."""
    from fgr.dataset import verify as checks

    problems = 0
    for problem in checks.verify(directory):
        problems += 1
        typer.echo(str(problem))
    agreed = 0
    if replay:
        from fgr.devices import choose_devices
        from fgr.generate.replay import replay as replayed

        for result in replayed(directory, replay, choose_devices(device, 1)[0]):
            if result is None:
                agreed += 1
            else:
                problems += 1
                typer.echo(str(result))
    if problems:
        typer.echo(f"fgr: {directory}: {problems} broken promise{'s' if problems > 1 else ''}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{directory}: every promise holds" + (f"; {agreed} rows replayed exactly" if replay else ""))


def _part(text: str) -> tuple[int, int]:
    index, slash, total = text.partition("/")
    if not (slash and index.isdigit() and total.isdigit() and 0 <= int(index) < int(total)):
        raise typer.BadParameter(f"'{text}' is not I/N with 0 ≤ I < N, for example 0/16.", param_hint="--shard")
    return int(index), int(total)
