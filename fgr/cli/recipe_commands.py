"""The command `fgr recipes`."""

from itertools import groupby
from typing import Annotated

import typer

from fgr.cli.options import Overrides
from fgr.cli.shell import echo, echo_lines


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A recipe, KIND/NAME where several commands have it, or a YAML file."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """List the shipped recipes, or print one with every key: as it would run, with `KEY=VALUE` applied, each key explained.

    What it prints is a recipe again: fgr recipes generate/demo samples=60 > mine.yaml, then fgr generate mine.yaml --out DIR.
    """
    from fgr.recipe.overview import VERBS, as_yaml, load_any, shipped_recipes

    if name is None:
        for kind, group in groupby(shipped_recipes(), key=lambda one: one.kind):
            echo(VERBS[kind])
            for number, one in enumerate(group):
                echo(f"  {one.name:16} {one.summary}{' (the default)' if number == 0 else ''}")
        return
    kind, chosen = load_any(name, overrides or [])
    echo(f"# A recipe of {VERBS[kind]}.")
    echo_lines(as_yaml(chosen).rstrip("\n"))
