"""The command line: thin commands and the one place where errors become sentences."""

import errno
import os
import sys

import typer

from fgr.errors import UserError

INTERRUPTED = "Interrupted. What is finished is kept; run the same command again to go on."

app = typer.Typer(
    name="fgr",
    help="Fine-grained reward for image super-resolution: make a dataset of real SR artifacts, have people annotate it, train a "
    "reward model on it that says how good an image is and where it is not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show:
        from fgr import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 1 for the user's errors, 2 for usage, 130 for an interrupt."""
    try:
        app()
    except SystemExit as end:  # typer turns an interrupt into one
        if end.code == 130:
            _say(INTERRUPTED)
        raise
    except KeyboardInterrupt:
        _say(INTERRUPTED)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FGR_DEBUG") == "1":
            raise
        _say(sentence(error))
        sys.exit(1)


def sentence(error: Exception) -> str:
    """What happened and what to do next, in words."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk{_where(error)}. Free some and run the same command again: what is finished is kept."
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return f"No permission to write or read{_where(error)}. Choose another folder or change its permissions."
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"A file is in the way{_where(error)}: a folder is needed there. Name another --out, or move the file."
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"There is no such place{_where(error)}, and it cannot be made there. Name another, or look at how it is spelt."
    return f"Unexpected {type(error).__name__}: {error}\nSet FGR_DEBUG=1 to see where; this is a bug worth reporting."


def _where(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _say(text: str) -> None:
    print(f"fgr: {text}", file=sys.stderr)


# commands register themselves
from fgr.cli import annotate, app_page, evaluate, generate, models, publish, report, reward, rlhf  # noqa: E402, F401
