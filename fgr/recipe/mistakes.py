"""What pydantic finds wrong with a recipe, as lines: key – problem – value."""

from typing import Any, get_args

from fgr.errors import nearest


def mistake_line(cls: Any, mistake: Any) -> str:
    """One of the errors of validating a recipe against the model `cls`, with the nearest key for one that is unknown."""
    keys, model, union = _place(cls, mistake["loc"])
    message, value = mistake["msg"].removeprefix("Value error, "), mistake["input"]
    if mistake["type"] == "extra_forbidden":
        message = _unknown_key(keys[-1], model, union)
    elif mistake["type"] == "union_tag_invalid":
        keys, message, value = [*keys, "name"], f"must be one of {mistake['ctx']['expected_tags']}", mistake["ctx"]["tag"]
    shown = "" if mistake["type"] == "missing" or not keys else f" – {value!r}"
    return f"{'.'.join(keys) or '(recipe)'} – {message}{shown if len(shown) < 120 else shown[:117] + '…'}"


def members(field: Any) -> dict[str, Any]:
    """The models of a field that is a union told apart by `name`, by their names; none for other fields."""
    if field is None or field.discriminator != "name":
        return {}
    return {get_args(member.model_fields["name"].annotation)[0]: member for member in get_args(field.annotation)}


def _place(cls: Any, loc: tuple[Any, ...]) -> tuple[list[str], Any, dict[str, Any]]:
    """The keys that pydantic's location means, the model that should hold the last one, and the union that this model is one of.

    Where a key is a union told apart by `name`, the location has the member's name behind it: it is left out.
    """
    keys: list[str] = []
    choices: dict[str, Any] = {}
    siblings: dict[str, Any] = {}
    model, holder, union = cls, cls, siblings
    for part in loc:
        if part in choices:
            model, siblings, choices = choices[part], choices, {}
            continue
        keys.append(str(part))
        field = getattr(model, "model_fields", {}).get(part)
        holder, union = model, siblings
        model, siblings, choices = field.annotation if field else None, {}, members(field)
    return keys, holder, union


def _unknown_key(key: str, model: Any, union: dict[str, Any]) -> str:
    owners = [name for name, member in union.items() if key in member.model_fields]
    if not owners:
        return "unknown key" + nearest(key, list(getattr(model, "model_fields", {})))
    chosen = next(name for name, member in union.items() if member is model)
    return f"a key of {', '.join(owners)}, not of {chosen}"
