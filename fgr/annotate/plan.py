"""What a project is meant to hold: kept beside the dataset, so that pushing again adds only what is missing.

`DATASET/.annotate/` is for the owner alone: it tells gold samples from others and holds the salt of the pseudonyms.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.errors import UserError

FOLDER = ".annotate"


@dataclass(frozen=True, slots=True)
class Entry:
    """One task to be: its key, the rooms (projects) it goes to, whether it is gold, whether it gets no pre-annotation."""

    key: str
    rooms: tuple[str, ...]
    gold: str = ""
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A project's plan. `rooms` maps a room's name to its title in Label Studio: one a named annotator, or one for all."""

    name: str
    url: str
    recipe: Mapping[str, Any]
    rooms: Mapping[str, str]
    entries: tuple[Entry, ...] = ()
    pulled: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)  # rooms that pulled rows came from, by sample and annotator

    @property
    def gold(self) -> dict[str, str]:
        """Kinds of the gold samples by key."""
        return {entry.key: entry.gold for entry in self.entries if entry.gold}

    def with_pulled(self, times: Mapping[str, str], people: Mapping[str, str], places: Mapping[str, str]) -> "Plan":
        """The plan after a pull: the latest change seen in each room, pseudonyms by the server's user id, rooms of rows."""
        return replace(self, pulled={**self.pulled, **times}, people={**self.people, **people}, places=places)


def path(directory: Path, name: str) -> Path:
    """The file of the plan `name`."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower()[:40]
    return directory / FOLDER / f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


def load(directory: Path, name: str) -> Plan | None:
    """The plan of the project `name`, None if it was never pushed. UserError if the file is damaged."""
    return _read(path(directory, name))


def known(directory: Path) -> list[Plan]:
    """All plans kept beside the dataset."""
    found = (_read(file) for file in sorted((directory / FOLDER).glob("*.json")))
    return [plan for plan in found if plan]


def _read(file: Path) -> Plan | None:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        tree["entries"] = tuple(Entry(**(entry | {"rooms": tuple(entry["rooms"])})) for entry in tree["entries"])
        return Plan(**tree)
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(f"{file} is damaged.", "Restore it; without it gold samples are not known from others.") from None


def expect(directory: Path, name: str) -> Plan:
    """The plan of the project `name`; UserError naming those there are if it was never pushed."""
    found = load(directory, name)
    if found is None:
        names = ", ".join(plan.name for plan in known(directory))
        others = f" Pushed from here: {names}." if names else ""
        raise UserError(f"No project '{name}' was pushed from {directory}.{others}", "Start with: fgr annotate push DATASET")
    return found


def save(directory: Path, plan: Plan) -> None:
    """Write the plan, readable by its owner alone."""
    tree = asdict(plan)
    file = path(directory, plan.name)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write_text(file, json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    file.chmod(0o600)


def salt(directory: Path) -> bytes:
    """The dataset's salt for pseudonyms, made at first use."""
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = atomic.write_once(folder / "salt", secrets.token_hex(16).encode())
    (folder / "salt").chmod(0o600)
    return kept


def pseudonym(key: bytes, person: str) -> str:
    """A name for `person` that cannot be traced back without the salt: `p-` and ten hexadecimal digits."""
    return "p-" + hashlib.blake2b(person.strip().lower().encode(), key=key, digest_size=5).hexdigest()
