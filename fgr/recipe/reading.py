"""The YAML of recipes: plain values; what would never end, or fill the memory, is refused at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fgr.errors import UserError

LARGEST = 1_000_000  # bytes of a file
NODES = 10_000  # keys and values, aliases written out
DEPTH = 32
BITS = 63  # of a whole number
HINT = "Write plain keys and values, as the shipped recipes do."


class Unreadable(Exception):
    """YAML that no recipe needs; the text says why."""


def read(path: Path) -> dict[str, Any]:
    """The mapping in a recipe's file. UserError in one sentence for anything else."""
    try:
        if path.stat().st_size > LARGEST:
            raise Unreadable(f"it has more than {LARGEST // 1000} kB")
        tree = parsed(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe {path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    except Unreadable as error:
        raise UserError(f"The recipe {path} cannot be used: {error}.", HINT) from None
    except OSError as error:
        raise UserError(f"The recipe {path} cannot be read: {error.strerror}.", "Name a file that can be read.") from None
    if not isinstance(tree, dict):
        raise UserError(f"The recipe {path} must be a mapping of keys to values.")
    return tree


def parsed(text: str) -> Any:
    """The value of a YAML text. YAMLError if it is none; Unreadable: too much, too deep, or values that are no plain ones."""
    _expect_small(text)
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML builds numbers and dates by Python's own functions, which raise what they like
        raise Unreadable(f"a value in it is impossible ({' '.join(str(error).split())[:120]})") from None
    for key, value in _leaves(tree, ""):
        _expect_plain(key, value)
    return tree


def expect_text(key: str, value: Any) -> None:
    """UserError for texts in an option's value that cannot be written down: names of files that are not UTF-8."""
    for place, one in _leaves(value, key):
        if isinstance(one, str) and ("\0" in one or _has_surrogates(one)):
            raise UserError(f"The value of {place} is not UTF-8 text: {one}.", "Rename the file or folder, or name another.")


def _expect_small(text: str) -> None:
    """Unreadable unless the nodes, with aliases written out, are few and not nested deep. Nothing is built of them."""
    size = _Size()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size.count(event)
        if size.total > NODES:
            raise Unreadable(f"it has more than {NODES} keys and values, aliases written out")
        if len(size.within) > DEPTH:
            raise Unreadable(f"it is nested more than {DEPTH} levels deep")


class _Size:
    """Nodes so far, the collections that are open (anchor, nodes before it), and the size of what each anchor names."""

    def __init__(self) -> None:
        self.total, self.within, self.sizes = 0, list[tuple[str | None, int]](), dict[str, int]()

    def count(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            alias = str(event.anchor)
            if alias in [anchor for anchor, _ in self.within]:
                raise Unreadable(f"its alias *{alias[:40]} holds itself")
            self.total += self.sizes.get(alias, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.within.append((event.anchor, self.total))
            self.total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            self._name(*self.within.pop())
        elif isinstance(event, yaml.ScalarEvent):
            self.total += 1
            self._name(event.anchor, self.total - 1)

    def _name(self, anchor: str | None, before: int) -> None:
        if anchor:
            self.sizes[anchor] = self.total - before


def _leaves(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value that is no collection, and every key, with the dotted key where it stands."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            place = f"{key}.{name}".lstrip(".")
            yield place, name
            yield from _leaves(value, place)
    elif isinstance(tree, list | tuple | set):
        for value in tree:
            yield from _leaves(value, key)
    else:
        yield key, tree


def _expect_plain(key: str, value: Any) -> None:
    where = f"the value of {key[:80]!r}" if key else "a value"
    if isinstance(value, int) and value.bit_length() > BITS:
        raise Unreadable(f"{where} is a number of {value.bit_length()} bits, more than {BITS}")
    if isinstance(value, str) and ("\0" in value or (not value.isascii() and _has_surrogates(value))):
        raise Unreadable(f"{where} holds characters that no text has")


def _has_surrogates(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False
