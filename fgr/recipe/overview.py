"""The shipped recipes, a line each, and a recipe as the YAML that would give it again."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fgr import recipe
from fgr.errors import UserError, nearest
from fgr.shipped import shipped

VERBS = {"generate": "fgr generate", "annotate": "fgr annotate push", "reward": "fgr train-rm", "rlhf": "fgr rlhf"}


class ShippedRecipe(NamedTuple):
    """A recipe of the package: its kind, its name, and what its file says first."""

    kind: str
    name: str
    summary: str


def shipped_recipes() -> list[ShippedRecipe]:
    """All of them, by verb; the verb's main recipe first."""
    found = []
    for kind in VERBS:
        files = sorted((shipped("recipes") / kind).glob("*.yaml"), key=lambda file: (file.stem != recipe.main_recipe(kind), file))
        found += [ShippedRecipe(kind, file.stem, _summary(file.read_text(encoding="utf-8"))) for file in files]
    return found


def load_any(name: str, overrides: list[str]) -> tuple[str, Any]:
    """The kind and the checked recipe of a name, of KIND/NAME where several verbs have the name, or of a YAML file.

    UserError: no such recipe, a name of several verbs, or the recipe's mistakes.
    """
    kind, found = _kind_of(name)
    return kind, recipe.load(found, kind, overrides)


def as_yaml(chosen: Any) -> str:
    """A recipe with every key, each with its meaning; reading it gives the same recipe."""
    return "\n".join(_lines(chosen, "")) + "\n"


def _summary(text: str) -> str:
    """The first clause of the comment that a recipe's file begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    comment = " ".join(lines)
    ends = [position for mark in (". ", ": ", "; ") if (position := comment.find(mark)) > 0]
    return comment[: min(ends, default=len(comment))].rstrip(".")


def _kind_of(name: str) -> tuple[str, str]:
    if Path(name).is_file():
        return _kind_of_file(Path(name)), name
    kind, _, rest = name.rpartition("/")
    known = [(one.kind, one.name) for one in shipped_recipes()]
    fitting = [(of, called) for of, called in known if called == rest and kind in ("", of)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        choices = [f"{of}/{called}" for of, called in fitting]
        raise UserError(f"Several commands have a recipe '{name}'.", f"Name one of them: {', '.join(choices)}.")
    names = sorted({called for _, called in known})
    raise UserError(
        f"There is no recipe '{name}'{nearest(rest, names)}.", "`fgr recipes` lists the shipped ones; or name a YAML file."
    )


def _kind_of_file(path: Path) -> str:
    """The kind whose keys the file has most of; where that says nothing, the kind that its folder is named after."""
    from fgr.recipe.reading import read

    keys = set(read(path))
    return max(VERBS, key=lambda kind: (len(keys & set(recipe.model_of(kind).model_fields)), path.parent.name == kind))


def _lines(model: Any, indent: str) -> Iterator[str]:
    for name, field in type(model).model_fields.items():
        value, meaning = getattr(model, name), f"  # {field.description}" if field.description else ""
        if hasattr(value, "model_dump"):
            yield f"{indent}{name}:{meaning}"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{name}: {_plain(value)}{meaning}"


def _plain(value: Any) -> str:
    import yaml

    listed = list(value) if isinstance(value, tuple) else value
    assert not isinstance(listed, Mapping)
    text: str = yaml.safe_dump(listed, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("...\n").strip()
