import importlib
from typing import get_args

import pytest

from fgr import recipe
from fgr.errors import UserError
from fgr.shipped import shipped


@pytest.mark.parametrize("path", sorted(shipped("recipes").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_loads(path):
    assert recipe.load(path.stem, path.parent.name).name == path.stem


@pytest.mark.parametrize("kind", recipe.KINDS)
def test_every_kind_has_its_main_recipe(kind):
    assert recipe.load(None, kind).name == recipe.main_recipe(kind)


def test_overrides_and_options_change_nested_keys():
    made = recipe.load("demo", "generate", ["map.alpha=1", "masks.area=[0.1, 0.2]"], {"samples": 5, "source.path": None})
    assert (made.map.alpha, made.masks.area, made.samples, made.source.path) == (1, (0.1, 0.2), 5, "skimage")


def test_all_mistakes_are_told_at_once_with_the_nearest_key():
    with pytest.raises(UserError) as error:
        recipe.load("demo", "generate", ["map.alhpa=1", "seed=-3", "splits.train=0.1", "degradation=foo", "masks.kinds.shan=1"])
    text = str(error.value)
    assert "5 mistakes" in text
    for part in (
        "map.alhpa – unknown key – did you mean 'alpha'? – 1",
        "seed –",
        "splits – the three shares",
        "degradation –",
        "'sham'",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("content", "message"), [("- a\n- b\n", "mapping"), ("a: [1", "not valid YAML"), ("name: x\n", "models – Field required")]
)
def test_bad_files_are_sentences(tmp_path, content, message):
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        recipe.load(path, "generate")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match="did you mean 'demo'"):
        recipe.load("dmeo", "generate")
    with pytest.raises(UserError, match="KEY=VALUE"):
        recipe.load("demo", "generate", ["alpha"])


def test_digest_depends_on_values_not_on_how_they_were_given():
    assert recipe.digest(recipe.load("demo", "generate", ["seed=0"])) == recipe.digest(recipe.load("demo", "generate"))
    assert recipe.digest(recipe.load("demo", "generate", ["seed=1"])) != recipe.digest(recipe.load("demo", "generate"))


def test_differences_name_dotted_keys():
    assert recipe.differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}) == ["a.b: 1 there, 3 here"]


def keys(annotation, prefix=""):
    """Every key that may stand in a recipe, those of nested models and of each member of a union: dotted name, field."""
    for part in get_args(annotation):
        yield from keys(part, prefix)
    for name, field in getattr(annotation, "model_fields", {}).items():
        yield f"{prefix}{name}", field
        yield from keys(field.annotation, f"{prefix}{name}.")


def undescribed(kind):
    """Keys without a description; a nested model is described by its docstring."""
    module, model, _ = recipe.KINDS[kind]
    for name, field in keys(getattr(importlib.import_module(module), model)):
        nested = [part for part in (field.annotation, *get_args(field.annotation)) if hasattr(part, "model_fields")]
        if not (all((part.__doc__ or "").strip() for part in nested) if nested else (field.description or "").strip()):
            yield name


@pytest.mark.parametrize("kind", ["reward"])
def test_every_key_is_described(kind):
    assert list(undescribed(kind)) == []
