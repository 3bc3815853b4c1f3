"""`fgr models`."""

import json
from typing import Annotated, Any

import typer

from fgr.cli import app


@app.command()
def models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Only these; folder:DIR and spandrel:PATH_OR_HUB_FILE too.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the weights of the named models, going on if it broke off.")
    ] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the sources of what is fetchable: it may be gated or gone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """The SR models: name, family, scale, licence, state of the weights (here, fetchable, gated, gone), where they are, digest.

    Weights lie in FGR_WEIGHTS (default: fgr/weights in the user's cache), where you may put them yourself; HF_HUB_OFFLINE=1
    forbids the network.
    """
    from fgr.sr import check_name
    from fgr.sr.catalogue import catalogue
    from fgr.sr.fetch import fetch as bring

    if fetch and not names:
        raise typer.BadParameter("name the models to fetch, for example: fgr models swinir hat --fetch", param_hint="--fetch")
    for name in (names or []) if fetch else []:
        check_name(name)
        bring(name)
    rows = catalogue(names or [], ask)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        typer.echo("\n".join(_lines(row)))


def _lines(row: dict[str, Any]) -> list[str]:
    scale = f"×{row['scale']}" if row["scale"] else "any scale"
    lines = [f"{row['name']}  –  {row['family']}, {scale}, licence: {row['license']}{_limits(row)}"]
    lines += [f"    {key:8} {row[key]}" for key in ("state", "weights", "where", "digest") if row[key]]
    return lines


def _limits(row: dict[str, Any]) -> str:
    """What the licence says of a dataset of the model's outputs, where that is not a plain yes."""
    if False in (row["train_on_outputs"], row["redistribute"]):
        return " (limits the samples: the recipe must name it in accept_license)"
    return "" if row["train_on_outputs"] and row["redistribute"] else " (says nothing known of outputs)"
