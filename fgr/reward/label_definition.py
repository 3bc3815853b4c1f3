"""What degradation maps are made of, by dataset and by reward model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.dataset import manifest
from fgr.errors import UserError

NAMES = {"pixel": "pixel difference", "features": "features", "alpha": "alpha", "smooth": "smoothing"}
Definition = Mapping[str, Any]  # the keys of the recipe's `map` that are in NAMES


def of_dataset(data: str) -> dict[str, Any] | None:
    """How the maps of a dataset's folder were made; None where nothing says so, as of a dataset on the Hub."""
    try:
        content = manifest.read(Path(data).expanduser())
    except (UserError, OSError):
        return None
    recipe = content["recipe"].get("map", {})
    stated = {name: recipe[name] for name in NAMES if name in recipe}
    return stated | {"pixel": manifest.pixel_difference_of(content)} if stated else None


def difference(trained: Definition | None, data: Definition | None) -> str:
    """What differs between the maps that a model learned and those of a dataset.

    Empty where nothing does, or where one of them is not stated, as in runs before version 0.2.
    """
    if not trained or not data:
        return ""
    both = (name for name in NAMES if name in trained and name in data and trained[name] != data[name])
    return ", ".join(f"{NAMES[name]} {trained[name]} there, {data[name]} here" for name in both)


def note(reward: str, trained: Definition | None, data: str) -> str:
    """A sentence about a reward model that learned other maps than those of `data`; empty otherwise."""
    found = difference(trained, of_dataset(data))
    if not found:
        return ""
    return (
        f"{reward} learned maps of another definition than those of {data} ({found}): figures of its maps, AP and CC among them, "
        "measure the definitions' difference as well"
    )
