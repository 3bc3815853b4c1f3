"""An annotation campaign, kept beside the dataset so that pushing again adds only what is missing.

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
from fgr.recipe.renamed import modernised

FOLDER = ".annotate"


@dataclass(frozen=True, slots=True)
class Entry:
    """A task to be: the key of its sample(s), the projects it goes to, its kind of gold, whether it has no pre-annotation."""

    key: str
    projects: tuple[str, ...]
    gold: str = ""
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Campaign:
    """What was pushed under one name, and what was pulled of it.

    `projects` are titles of Label Studio projects by annotator: one for each named annotator, or one for all under "".
    """

    name: str
    url: str
    recipe: Mapping[str, Any]
    projects: Mapping[str, str]
    entries: tuple[Entry, ...] = ()
    pulled: Mapping[str, str] = field(default_factory=dict)  # the latest change seen, by annotator
    people: Mapping[str, str] = field(default_factory=dict)  # pseudonyms by the server's user id
    places: Mapping[str, str] = field(default_factory=dict)  # task and annotator that rows came from, by sample and rater

    @property
    def gold(self) -> dict[str, str]:
        """Kinds of the gold samples by key."""
        return {entry.key: entry.gold for entry in self.entries if entry.gold}

    def with_pulled(self, times: Mapping[str, str], people: Mapping[str, str], places: Mapping[str, str]) -> "Campaign":
        """The campaign after a pull: the latest change seen in each project, pseudonyms by user id, where rows came from."""
        return replace(self, pulled={**self.pulled, **times}, people={**self.people, **people}, places=places)


def path(directory: Path, name: str) -> Path:
    """The file of the campaign `name`."""
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower()[:40]
    return directory / FOLDER / f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


def load(directory: Path, name: str) -> Campaign | None:
    """The campaign `name`, None if it was never pushed. UserError if the file is damaged."""
    return _read(path(directory, name))


def known(directory: Path) -> list[Campaign]:
    """All campaigns kept beside the dataset."""
    found = (_read(file) for file in sorted((directory / FOLDER).glob("*.json")))
    return [campaign for campaign in found if campaign]


def _read(file: Path) -> Campaign | None:
    try:
        return _campaign(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, KeyError):
        raise UserError(f"{file} is damaged.", "Restore it: only this file tells gold samples from others.") from None


def _campaign(tree: dict[str, Any]) -> Campaign:
    """From what `save` wrote, by an earlier version too: it called projects rooms."""
    entries = [{"projects" if key == "rooms" else key: value for key, value in entry.items()} for entry in tree["entries"]]
    tree = {"projects" if key == "rooms" else key: value for key, value in tree.items()}
    tree["entries"] = tuple(Entry(**(entry | {"projects": tuple(entry["projects"])})) for entry in entries)
    tree["recipe"] = modernised(tree["recipe"], "annotate")[0]
    return Campaign(**tree)


def expect(directory: Path, name: str) -> Campaign:
    """The campaign `name`; UserError naming the others if it was never pushed."""
    campaign = load(directory, name)
    if campaign is None:
        names = ", ".join(other.name for other in known(directory))
        others = f" Pushed from it: {names}." if names else ""
        raise UserError(f"No project '{name}' was pushed from {directory}.{others}", "Start with: fgr annotate push DATASET")
    return campaign


def save(directory: Path, campaign: Campaign) -> None:
    """Write the campaign, readable by its owner alone."""
    tree = asdict(campaign)
    file = path(directory, campaign.name)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write_text(file, json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    file.chmod(0o600)


def read_salt(directory: Path) -> bytes:
    """The dataset's salt for pseudonyms, made at first use."""
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    salt = atomic.write_once(folder / "salt", secrets.token_hex(16).encode())
    (folder / "salt").chmod(0o600)
    return salt


def pseudonym(key: bytes, person: str) -> str:
    """A name for `person` that cannot be traced back without the salt: `p-` and ten hexadecimal digits."""
    return "p-" + hashlib.blake2b(person.strip().lower().encode(), key=key, digest_size=5).hexdigest()
