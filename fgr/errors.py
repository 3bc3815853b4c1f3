"""UserError, the one exception for what a user can put right; text from outside made safe to print."""

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class UserError(Exception):
    """A mistake or a circumstance that the user can mend; the command line prints it as a sentence and exits with 1.

    `message` says what happened and what was expected, `lines` list what it is about, `hint` says what to do next. Each is one
    line: line breaks and other control characters in it, such as those of a file's name, are written out.
    """

    def __init__(self, message: str, hint: str | None = None, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.lines = message, hint, tuple(lines)

    def __str__(self) -> str:
        every = [self.message, *(f"  {line}" for line in self.lines), *([self.hint] if self.hint else [])]
        return "\n".join(map(printable, every))


def all_of(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each call gives, by its name. UserError with all that the user has to correct, of every call that refuses."""
    found, mistakes = {}, []
    for name, call in calls.items():
        try:
            found[name] = call()
        except UserError as error:
            mistakes.append(error)
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        lines = dict.fromkeys(line for mistake in mistakes for line in (mistake.message, *mistake.lines))
        hints = dict.fromkeys(mistake.hint for mistake in mistakes if mistake.hint)
        raise UserError(f"{len(mistakes)} things have to be put right:", " ".join(hints) or None, [*lines])
    return found


def notice(text: Any) -> None:
    """Tell the user something on stderr, in one line whatever names it holds."""
    print(f"fgr: {printable(text)}", file=sys.stderr, flush=True)


def printable(text: Any) -> str:
    """`text` as one line: control characters are written out, so that escape codes, line breaks, or letters that turn the line
    round are shown, not obeyed."""

    def shown(letter: str) -> str:
        fine = letter.isprintable() or unicodedata.category(letter) == "Zs"
        return letter if fine else letter.encode("unicode_escape").decode()

    found = str(text)
    return found if found.isascii() and found.isprintable() else "".join(map(shown, found))


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """A suffix naming the known word closest to `word` (" – did you mean 'x'?"), or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" – did you mean '{close[0]}'?" if close else ""


def missing_extra(package: str, extra: str, purpose: str) -> UserError:
    """The error for an absent optional package, with the command that installs it."""
    return UserError(f"{purpose} needs the package {package}, which is not installed.", f"Install it: pip install 'fgr[{extra}]'")
