"""`fgr app`."""

from typing import Annotated

import typer

from fgr.cli import app


@app.command("app")
def page(
    *,
    reward: Annotated[str, typer.Option(metavar="DIR|ID", help="The reward model: a run, a stage, or on the Hub.")],
    models: Annotated[
        str | None,
        typer.Option(help="SR models to offer, comma-separated, runs of rlhf too; default: those whose weights are here."),
    ] = None,
    port: Annotated[int, typer.Option(help="Loopback port; 0 = a free one.")] = 7860,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Open a page on this machine: score an image, see where it is not good, compare two, try SR models.

    It listens on 127.0.0.1 alone and fetches nothing from elsewhere. Ctrl-C ends it.
    """
    import threading

    from fgr.app.run import serving

    names = [name.strip() for name in models.split(",") if name.strip()] if models else None
    with serving(reward, names, port, device) as address:
        typer.echo(address)
        threading.Event().wait()
