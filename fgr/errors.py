"""UserError, the one exception for what a user can put right; text from outside made safe to print."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any


class UserError(Exception):
    """A mistake or a circumstance that the user can mend; the command line prints it as a sentence and exits with 1.

    `message` says what happened and what was expected, `hint` what to do next.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


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
        messages = dict.fromkeys(mistake.message for mistake in mistakes)
        hints = dict.fromkeys(mistake.hint for mistake in mistakes if mistake.hint)
        raise UserError("\n".join(messages), "\n".join(hints) or None)
    return found


def printable(text: Any, keep: str = "\n\t") -> str:
    """`text` with its control characters written out: escape codes, or letters that turn the line round, are shown, not obeyed.

    Of the control characters those in `keep` stay; names in a line are given none.
    """

    def shown(letter: str) -> str:
        fine = letter.isprintable() or letter in keep or unicodedata.category(letter) == "Zs"
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
