"""The command line `fgr`: its commands by name, and the entry point."""

import os
from collections.abc import Callable
from typing import Any

import typer

from fgr.cli.annotate_commands import annotate
from fgr.cli.dataset_commands import generate, models, verify
from fgr.cli.evaluate_commands import evaluate
from fgr.cli.recipe_commands import recipes
from fgr.cli.reward_commands import export, score, train_rm
from fgr.cli.rlhf_commands import rlhf
from fgr.cli.share_commands import open_app, publish, report
from fgr.cli.shell import guarded

COMMANDS: dict[str, Callable[..., Any]] = {
    "generate": generate,
    "recipes": recipes,
    "verify": verify,
    "models": models,
    "train-rm": train_rm,
    "score": score,
    "export": export,
    "rlhf": rlhf,
    "evaluate": evaluate,
    "app": open_app,
    "report": report,
    "publish": publish,
}

app = typer.Typer(
    name="fgr",
    help="Fine-grained reward for image super-resolution: make a dataset of real SR artifacts, have people annotate it, train a "
    "reward model on it that says how good an image is and where it is not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(annotate, name="annotate")


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        from fgr import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """The entry point: exit 1 for the user's errors, 2 for usage, 130 for an interrupt.

    Threads of a computation on the CPU sleep while they wait for each other, unless the environment says otherwise. By default
    they spin: where other programs take the cores they wait for, training is five times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is imported
    guarded(app)
