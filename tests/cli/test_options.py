"""What command lines share."""

import pytest
import typer

from fgr.cli.options import listed, load_recipe, named
from fgr.errors import UserError


def test_a_recipe_may_be_left_out_before_overrides():
    assert load_recipe(None, "annotate", None).name == "defects"
    assert load_recipe("demo", "annotate", ["raters=2"]).raters == 2
    first = load_recipe("raters=2", "annotate", ["seed=4"])
    assert (first.name, first.raters, first.seed) == ("defects", 2, 4)


def test_options_come_after_overrides_and_none_is_not_given():
    chosen = load_recipe("demo", "annotate", ["raters=2", "seed=4"], {"raters": 5, "seed": None})
    assert (chosen.raters, chosen.seed) == (5, 4)


def test_an_old_key_is_refused_with_the_new_one():
    with pytest.raises(UserError, match="overlap – renamed to 'raters' – 2"):
        load_recipe("demo", "annotate", ["overlap=2"])


def test_lists_are_comma_separated():
    assert listed(None) is None
    assert listed("a, b,,c") == ["a", "b", "c"]


def test_names_have_values():
    assert named(None, "--maps") == {}
    assert named("a=x, b=y=z", "--maps") == {"a": "x", "b": "y=z"}
    for wrong in ("a", "a=", "=x", "a=x,a=y"):
        with pytest.raises(typer.BadParameter, match="--maps"):
            named(wrong, "--maps")
