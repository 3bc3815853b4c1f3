"""`fgr recipes`: what there is, and a recipe as YAML."""

import pytest
from typer.testing import CliRunner

from fgr import recipe
from fgr.cli import app
from fgr.errors import UserError
from fgr.recipe.overview import VERBS, as_yaml, load_any, shipped_recipes

ALL = [(one.kind, one.name) for one in shipped_recipes()]


def fgr(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_every_shipped_recipe_has_a_line_of_its_own():
    lines = fgr("recipes").stdout.splitlines()
    assert set(VERBS) == set(recipe.KINDS)
    assert len(lines) == len(ALL) + len(VERBS)
    assert all(10 < len(one.summary) < 110 for one in shipped_recipes())
    assert "  fgr30k           FGR-30k with maps that see what people see (the default)" in lines
    assert sum(line.endswith("(the default)") for line in lines) == len(VERBS)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_what_is_printed_is_the_same_recipe_again(kind, name, tmp_path):
    found, chosen = load_any(f"{kind}/{name}", [])
    (tmp_path / "mine.yaml").write_text(as_yaml(chosen))
    assert found == kind
    assert load_any(str(tmp_path / "mine.yaml"), []) == (kind, recipe.load(name, kind))


def test_a_recipe_is_printed_as_it_would_run():
    text = fgr("recipes", "generate/demo", "samples=60", "masks.area=[0.01, 0.3]").stdout
    assert text.startswith("# A recipe of fgr generate.\n")
    assert "samples: 60  # composites to make, before drops\n" in text
    assert "  area: [0.01, 0.3]  # range of the swapped area" in text
    assert "duplicate_bits: 4" in text  # which the file leaves out


def test_a_name_of_several_commands_and_an_unknown_one_are_refused():
    with pytest.raises(UserError, match="Name one of them: generate/demo, annotate/demo, reward/demo, rlhf/demo"):
        load_any("demo", [])
    with pytest.raises(UserError, match="did you mean 'finpercep'"):
        load_any("finpercept", [])
    with pytest.raises(UserError, match="samples – "):
        load_any("generate/demo", ["samples=-1"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "demo", "--seed", "7", "--out", "OUT"],
        ["train-rm", "demo", "--seed", "7", "--data", "d", "--out", "OUT"],
        ["rlhf", "demo", "--seed", "7", "--generator", "g", "--reward", "r", "--data", "d", "--out", "OUT"],
        ["annotate", "push", "OUT", "demo", "--seed", "7"],
    ],
)
def test_seed_reaches_the_recipe(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(recipe, "load", lambda *given: seen.append(given[3]["seed"]))
    monkeypatch.setattr("fgr.generate.run.generate", lambda *_, **__: True)
    fgr(*arguments)
    assert seen == [7]
