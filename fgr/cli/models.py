"""`fgr models`."""

import json
from typing import Annotated, Any

import typer

from fgr.cli import app


@app.command()
def models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Only these; folder:DIR and spandrel:PATH too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """The SR models: name, family, scale, licence, which weights are used, where they are, their digest."""
    from fgr.generate.upscalers.catalogue import catalogue

    rows = catalogue(names or [])
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
