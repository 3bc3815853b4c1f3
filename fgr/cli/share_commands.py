"""The commands `fgr report`, `fgr app` and `fgr publish`."""

from pathlib import Path
from typing import Annotated

import typer

from fgr.cli.options import Device, RewardModel, listed
from fgr.cli.shell import echo, echo_lines, ended_by_signals
from fgr.shipped import REWARD_MODEL


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset, or a run of train-rm or rlhf.")],
    out: Annotated[Path | None, typer.Option(help="The page to write; default: DIR/report.html.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Pictures in each gallery of a run, and of contested samples.")] = 6,
    samples: Annotated[int, typer.Option(min=1, help="Samples of a dataset to filter, sort and enlarge.")] = 300,
) -> None:
    """Write one HTML page that opens offline: a dataset to look through, or a run's verdict, curves and pictures.

    It holds everything it shows. Only where a dataset's full pictures are more than 20 MB do they lie in a folder beside it,
    NAME-images; the thumbnails are in the page.
    """
    from fgr.report import explorer, page

    written = page.write(directory, out, rows, samples)
    echo(str(written))
    beside = explorer.folder_of(written)
    if beside.is_dir() and (files := list(beside.iterdir())):
        size = sum(file.stat().st_size for file in files) / 1e6
        echo(f"Full pictures: {beside} ({len(files)} files, {size:.0f} MB); the page shows thumbnails without it.", err=True)


def open_app(
    *,
    reward: RewardModel = REWARD_MODEL,
    models: Annotated[
        str | None,
        typer.Option(help="SR models to offer, comma-separated, runs of rlhf too; default: those whose weights are here."),
    ] = None,
    port: Annotated[int, typer.Option(help="Loopback port; 0 = a free one.")] = 7860,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: score an image, see where it is not good, compare two, try SR models.

    It listens on 127.0.0.1 alone and fetches nothing from elsewhere. Ctrl-C ends it and removes what was uploaded.
    """
    import threading

    from fgr.app.run import serving

    names = listed(models)
    with ended_by_signals(), serving(reward, names, port, device) as address:
        echo(address)
        threading.Event().wait()


def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory, or a run of train-rm or rlhf.")],
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; made if it does not exist.")],
    *,
    public: Annotated[bool, typer.Option("--public", help="For everyone; private otherwise.")] = False,
    vouch: Annotated[
        bool, typer.Option("--vouch", help="I have the right to publish what has no known licence (asked for with --public).")
    ] = False,
    non_commercial: Annotated[
        bool, typer.Option("--non-commercial", help="For non-commercial use only, as some SR models' licences demand.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list what would go and show the card; send nothing.")
    ] = False,
) -> None:
    """Put a dataset, a reward model or a tuned SR model on the Hugging Face Hub.

    Checks it, completes its card, uploads. Private unless --public. Log in first with `hf auth login`. Running the same command
    again goes on after an interruption and sends only what changed.
    """
    from fgr.publish import run
    from fgr.publish.package import Consent

    package = run.pack(folder, name, Consent(public, vouch, non_commercial), write=not dry_run)
    for warning in package.warnings:
        echo(f"fgr: {warning}", err=True)
    if dry_run:
        sizes = package.sizes()
        for file, size in sizes.items():
            echo(f"{size:>12}  {file}")
        visible = "for everyone" if public else "private"
        echo("")
        echo_lines(package.card)
        echo(f"{package.what}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {name}, {visible}", err=True)
        return
    address, changed = run.publish(package, name, private=not public)
    echo(address)
    if not changed:
        echo("Everything was there already.", err=True)
