"""The error boundary of the command line: exit codes, and every error as a sentence."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from fgr.device_errors import explained
from fgr.errors import UserError, notice, printable

ENDING = (signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = "Interrupted. What is finished is kept; run the same command again to go on."


def guarded(app: Callable[[], object]) -> None:
    """Run `app`: exit 1 for the user's errors, 2 for usage, 130 for an interrupt; tracebacks only with FGR_DEBUG=1."""
    try:
        app()
    except SystemExit as end:  # typer turns an interrupt into one
        if end.code == 130:
            notice(INTERRUPTED)
        raise
    except KeyboardInterrupt:
        notice(INTERRUPTED)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FGR_DEBUG") == "1":
            raise
        print(f"fgr: {sentence(error)}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end the program as an interrupt does, so that what a server holds is put in
    order: exit 128 + number.

    For the main thread alone: only there can signals be caught.
    """

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sentence(error: Exception) -> str:
    """What happened and what to do next, in words."""
    if isinstance(error, UserError):
        return str(error)
    if (of_device := explained(error)) is not None:
        return str(of_device)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space is left on the disk{_where(error)}. Free some and run the same command again: what is finished is kept."
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == errno.EROFS):
        return f"No permission to write or read{_where(error)}. Choose another folder or change its permissions."
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"A file exists where a folder is needed{_where(error)}. Choose another --out, or move the file."
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"The path does not exist and cannot be created{_where(error)}. Check its spelling, or choose another."
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        name = error.object[max(error.start - 60, 0) : error.end + 20]
        return f"The name of a file or folder is not UTF-8 ({printable(name)}). Rename it, or choose another."
    return f"Unexpected {type(error).__name__}: {printable(error)}\nSet FGR_DEBUG=1 to see where; this is a bug worth reporting."


def echo(text: object, err: bool = False) -> None:
    """Print a line; control characters in it, line breaks too, are written out: it may hold names and words from outside."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


def echo_lines(text: str) -> None:
    """Print text that has several lines, none of them made by a name in it."""
    for line in text.split("\n"):
        echo(line)


def _where(error: OSError) -> str:
    return f" ({printable(error.filename)})" if error.filename else ""
