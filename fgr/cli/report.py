"""`fgr report`."""

from pathlib import Path
from typing import Annotated

import typer

from fgr.cli import app


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset directory.")],
    out: Annotated[Path | None, typer.Option(help="The page to write; default: DIR/report.html.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Samples shown in each part of the gallery.")] = 6,
) -> None:
    """Write one self-contained HTML page that opens offline: counts, drops, histograms, samples to look at."""
    from fgr.report import page

    typer.echo(str(page.write(directory, out, rows)))
