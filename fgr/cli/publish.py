"""`fgr publish`."""

from pathlib import Path
from typing import Annotated

import typer

from fgr.cli import app


@app.command()
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
        bool, typer.Option("--dry-run", help="Check everything and list what would go; change and send nothing.")
    ] = False,
) -> None:
    """Put a dataset, a reward model or a tuned SR model on the Hugging Face Hub.

    Checks it, completes its card, uploads. Private unless --public. Log in first with `hf auth login`. Running the same command
    again goes on after an interruption and sends only what changed.
    """
    from fgr.publish import run
    from fgr.publish.package import Consent

    package = run.prepare(folder, name, Consent(public, vouch, non_commercial), write=not dry_run)
    for warning in package.warnings:
        typer.echo(f"fgr: {warning}", err=True)
    if dry_run:
        sizes = package.sizes()
        for file, size in sizes.items():
            typer.echo(f"{size:>12}  {file}")
        visible = "for everyone" if public else "private"
        typer.echo(f"{package.what}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {name}, {visible}", err=True)
        return
    address, changed = run.publish(package, name, private=not public)
    typer.echo(address)
    if not changed:
        typer.echo("Everything was there already.", err=True)
