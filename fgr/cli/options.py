"""Arguments and options that several commands share, and the recipe that a command line asks for."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change: seed=3 map.alpha=1.")]
Seed = Annotated[int | None, typer.Option(help="Of all that is drawn at random (the recipe's `seed`).")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Devices = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
RewardModel = Annotated[
    str,
    typer.Option(metavar="DIR|ID", help="The reward model: fgr-lite, which ships; a run, one of its stages, or one on the Hub."),
]
Data = Annotated[str, typer.Option(metavar="DIR|ID", help="A dataset directory or Hub dataset id.")]


def load_recipe(name: str | None, kind: str, overrides: list[str] | None, options: Mapping[str, Any] | None = None) -> Any:
    """The recipe `name` (None: the verb's main recipe) with `overrides`, then with the command's own `options` by dotted key.

    Both positional arguments may be left out, so a name that contains `=` is the first override. UserError for its mistakes.
    """
    from fgr import recipe

    changes = list(overrides or [])
    if name and "=" in name:
        changes, name = [name, *changes], None
    return recipe.load(name, kind, changes, options)


def listed(text: str | None) -> list[str] | None:
    """The parts of a comma-separated option; None if it was not given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def named(text: str | None, option: str) -> dict[str, str]:
    """The values by name of an option NAME=VALUE,…; empty if it was not given."""
    parts = [part.partition("=") for part in listed(text) or []]
    if wrong := [name for name, equals, value in parts if not (name and equals and value)]:
        raise typer.BadParameter(f"{option} takes NAME=VALUE,…, not {wrong[0]}.")
    if len({name for name, _, _ in parts}) < len(parts):
        raise typer.BadParameter(f"{option} names something twice.")
    return {name.strip(): value.strip() for name, _, value in parts}
