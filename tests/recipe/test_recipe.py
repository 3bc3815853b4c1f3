from typing import get_args

import pytest

from fgr import recipe
from fgr.errors import UserError
from fgr.shipped import shipped


@pytest.mark.parametrize("path", sorted(shipped("recipes").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_loads(path):
    assert recipe.load(path.stem, path.parent.name).name == path.stem


def test_every_kind_has_its_main_recipe(kind):
    assert recipe.load(None, kind).name == recipe.main_recipe(kind)


def test_overrides_and_options_change_nested_keys():
    made = recipe.load("demo", "generate", ["map.alpha=1", "masks.area=[0.1, 0.2]"], {"samples": 5, "source.path": None})
    assert (made.map.alpha, made.masks.area, made.samples, made.source.path) == (1, (0.1, 0.2), 5, "embedded")


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


def test_every_key_and_every_group_is_described(fields):
    """A key by its description; a group, and each member of a union, by its docstring; what tells members apart needs none."""
    told_apart_by = {f"{key}.{field.discriminator}" for key, field in fields if field.discriminator}
    for key, field in fields:
        groups = [part for part in (field.annotation, *get_args(field.annotation)) if hasattr(part, "model_fields")]
        texts = [part.__doc__ for part in groups] or [field.description]
        assert key in told_apart_by or all(text and text.strip() for text in texts), key


@pytest.mark.parametrize("kind", ["reward", "rlhf"])
def test_no_mixed_precision_may_be_written_bare(kind):
    assert recipe.load(None, kind, ["training.precision=no"]).training.precision == "no"
