"""Text from outside in a card's Markdown: shown as text, never read as Markdown, HTML or YAML."""

import html
import json
import re
from typing import Any

from fgr.errors import printable

SPECIAL = re.compile(r"([\\`*_\[\]|#~])")
INSIDE_WORDS = re.compile(r"(?<=\w)\\(_)(?=\w)")  # no emphasis there: names stay readable


def environment(loader: Any = None) -> Any:
    """The Jinja2 environment of cards. A name that is missing is an error.

    Filters for values from data, names and recipes: `text` in prose and tables, `code` between backticks, `yaml` in the front
    matter; `fence` gives a code block's backticks, more than its content holds.
    """
    from jinja2 import Environment, StrictUndefined

    made = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    made.filters |= {"text": text, "code": code, "yaml": scalar, "fence": fence}
    return made


def text(value: Any) -> str:
    """A value in a line of prose or a cell of a table."""
    escaped = SPECIAL.sub(r"\\\1", html.escape(printable(value), quote=False))
    return INSIDE_WORDS.sub(r"\1", escaped).replace("://", ":\u200b//")  # no link that nobody meant


def code(value: Any) -> str:
    """A value between single backticks, also in a table."""
    return printable(value).replace("`", "'").replace("|", "¦")


def scalar(value: Any) -> str:
    """A value of the YAML front matter: plain where it is a plain name, otherwise quoted as JSON quotes, which YAML reads."""
    shown = str(value)
    return shown if re.fullmatch(r"[A-Za-z][A-Za-z0-9.+-]*", shown) else json.dumps(printable(shown))


def fence(content: str) -> str:
    """The backticks around a block of code."""
    longest = max((len(run) for run in re.findall(r"`+", content)), default=0)
    return "`" * max(3, longest + 1)
