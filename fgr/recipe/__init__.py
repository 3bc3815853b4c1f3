"""Recipes: YAML files that determine a run, checked whole before anything starts.

`load` reads one, applies `KEY=VALUE` overrides and returns a frozen pydantic model; every mistake is reported at once.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fgr.errors import UserError, nearest
from fgr.recipe.mistakes import members, mistake_line
from fgr.recipe.renamed import modernised
from fgr.shipped import shipped

KINDS = {  # kind → (module, model, the verb's main recipe)
    "annotate": ("fgr.recipe.annotate", "AnnotateRecipe", "defects"),
    "generate": ("fgr.recipe.generate", "GenerateRecipe", "fgr30k"),
    "reward": ("fgr.recipe.reward", "RewardRecipe", "finpercep-plus"),
    "rlhf": ("fgr.recipe.rlhf", "RlhfRecipe", "ccl-realesrgan"),
}

SHOWN = 40  # mistakes that an error lists


def main_recipe(kind: str) -> str:
    """Name of the recipe a verb uses when none is given."""
    return KINDS[kind][2]


def load(name: str | Path | None, kind: str, overrides: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Any:
    """Read the recipe `name` (a path, or the name of a shipped one) and check it.

    `overrides` are `KEY=VALUE` texts with dotted keys and YAML values; `extra` maps dotted keys to values already parsed
    (the command's own options; None means not given). Raises UserError naming every wrong key.
    """
    from fgr.recipe.reading import read

    path = find(str(name or main_recipe(kind)), kind)
    file = read(path)
    tree = changed(changed(file, dict(_parse_override(text) for text in overrides)), extra or {}, without_none=True)
    _leave_behind(model_of(kind), file, tree)
    return check(tree, kind, str(path))


def changed(tree: Mapping[str, Any], changes: Mapping[str, Any], without_none: bool = False) -> dict[str, Any]:
    """A copy of a recipe's `tree` with other values at dotted keys; `without_none` takes None for not given."""
    from fgr.recipe.reading import expect_text

    result = dict(tree)
    for key, value in changes.items():
        if value is not None or not without_none:
            expect_text(key, value)
            _assign(result, key, value)
    return result


def check(tree: Mapping[str, Any], kind: str, origin: str) -> Any:
    """Turn a mapping into the kind's recipe model; `origin` names its source in errors. UserError naming every wrong key."""
    current, lines = modernised(tree, kind)
    made, wrong = _validated(current, kind)
    lines += wrong
    if lines:
        heading = f"The recipe {origin} has {len(lines)} mistake{'s' if len(lines) > 1 else ''} (key – problem – value):"
        rest = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise UserError(heading, lines=[*lines[:SHOWN], *rest])
    return made


def stored(tree: Mapping[str, Any], kind: str, origin: str) -> Any:
    """The model of a recipe that an earlier run wrote down, perhaps with keys that have been renamed since."""
    return check(modernised(tree, kind)[0], kind, origin)


def find(name: str, kind: str) -> Path:
    """The file of a recipe given by path or by the name of a shipped one."""
    path = Path(name)
    if path.is_file():
        return path
    folder = shipped("recipes") / kind
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if path.suffix in {".yaml", ".yml"} or name not in known:
        raise UserError(
            f"There is no recipe '{name}'{nearest(path.stem, known)}.",
            f"Name a YAML file, or one of the shipped recipes: {', '.join(known)}.",
        )
    return folder / f"{name}.yaml"


def resolved(recipe: Any) -> dict[str, Any]:
    """The recipe with every default filled in, as plain JSON values."""
    tree: dict[str, Any] = recipe.model_dump(mode="json")
    return tree


def digest(recipe: Any) -> str:
    """16 hexadecimal digits that identify a recipe, given as its model or resolved as JSON keeps it."""
    tree = recipe if isinstance(recipe, Mapping) else resolved(recipe)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys in which two resolved recipes differ, each with both values."""
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}: {left!r} there, {right!r} here")
    return found


def completed(tree: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A resolved recipe that an earlier version wrote, with the keys that came since at their defaults; as it is if it no longer
    fits."""
    recipe, mistakes = _validated(modernised(tree, kind)[0], kind)
    return dict(tree) if mistakes else resolved(recipe)


def model_of(kind: str) -> Any:
    """The pydantic model of a kind of recipe."""
    module, name, _ = KINDS[kind]
    return getattr(importlib.import_module(module), name)


def _leave_behind(cls: Any, file: Mapping[str, Any], tree: dict[str, Any]) -> None:
    """Where overrides choose another member of a union than the file, drop the file's keys that this member does not have."""
    for key, field in cls.model_fields.items():
        choices, old, new = members(field), file.get(key), tree.get(key)
        if not isinstance(old, Mapping) or not isinstance(new, Mapping) or new.get("name") not in choices:
            continue
        if new["name"] != old.get("name"):
            own = choices[new["name"]].model_fields
            tree[key] = {name: value for name, value in new.items() if name in own or name not in old or value != old[name]}


def _validated(tree: dict[str, Any], kind: str) -> tuple[Any, list[str]]:
    """The recipe's model, or None and a line for each mistake."""
    import pydantic

    cls = model_of(kind)
    try:
        return cls.model_validate(tree), []
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        return None, [mistake_line(cls, mistake) for mistake in found[:SHOWN]] + [""] * (len(found) - SHOWN)


def _parse_override(text: str) -> tuple[str, Any]:
    import yaml

    from fgr.recipe import reading

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"The override '{text[:80]}' is not of the form KEY=VALUE.", "Example: degradation.preset=light")
    try:
        return key, reading.parsed(value)
    except yaml.YAMLError:
        return key, value
    except reading.Unreadable as error:
        raise UserError(f"The override '{text[:80]}' cannot be used: {error}.", reading.HINT) from None


def _assign(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        child = tree.get(part)
        child = dict(child) if isinstance(child, dict) else {}
        tree[part] = child
        tree = child
    tree[last] = value
