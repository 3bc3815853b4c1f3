import importlib
from typing import get_args

import pytest

from fgr import recipe


def fields_of(annotation, prefix=""):
    """Every field that may stand in a recipe, by its dotted key: groups, and what is in them, and in each member of a union."""
    for part in get_args(annotation):
        yield from fields_of(part, prefix)
    for name, field in getattr(annotation, "model_fields", {}).items():
        yield f"{prefix}{name}", field
        yield from fields_of(field.annotation, f"{prefix}{name}.")


@pytest.fixture(params=recipe.KINDS)
def kind(request):
    """Each kind of recipe."""
    return request.param


@pytest.fixture
def fields(kind):
    """The kind's keys, each with its pydantic field."""
    module, model, _ = recipe.KINDS[kind]
    return list(fields_of(getattr(importlib.import_module(module), model)))
