"""Recipes of `fgr rlhf` that do not hold together, and the keys of each algorithm."""

import pytest

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.recipe import algorithms, rlhf
from fgr.recipe.algorithms import DirectSettings, DraftSettings, GrpoSettings


def recipes_of_algorithms():
    return [name for name in vars(algorithms) if name.endswith("Settings") and hasattr(getattr(algorithms, name), "model_fields")]


def test_all_mistakes_of_a_recipe_at_once():
    with pytest.raises(UserError) as caught:
        recipes.load("demo", "rlhf", ["training.lr=-1", "policy.train=some", "audit.evry=3", "reward.q=0"])
    text = str(caught.value)
    assert "4 mistakes" in text
    assert "unknown key – did you mean 'every'?" in text


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reward.plain=[psnr]", "curriculum.schedule=none"], "not psnr"),
        (["reward.plain=[clipiqa]"], "curriculum.schedule=none"),
        (["reward.score=0", "reward.map=0"], "no reward is left"),
        (["anchor.start=0", "anchor.consistency=0"], "nothing keeps the policy near its start"),
        (["curriculum.stage=1"], "direct training"),
        (["audit.metrics=[ssim]"], "not ssim"),
        (["audit.control_features=[lpips, 'timm:']"], "knows timm:NAME, not lpips, timm:"),
    ],
)
def test_keys_that_contradict_one_another_are_named(overrides, said):
    with pytest.raises(UserError, match=said):
        recipes.load("demo", "rlhf", overrides)


def test_contradictions_are_named_all_at_once():
    with pytest.raises(UserError) as caught:
        recipes.load("demo", "rlhf", ["anchor.start=0", "anchor.consistency=0", "audit.metrics=[ssim]"])
    assert "nothing keeps the policy near its start" in str(caught.value)
    assert "not ssim" in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["algorithm.group=4"], "algorithm.group – a key of grpo, not of direct – 4"),
        (["algorithm.anchor=1"], "algorithm.anchor – a key of refl, draft, draft-lv, not of direct – 1"),
        (["algorithm.name=grpo", "algorithm.gruop=4"], "algorithm.gruop – unknown key – did you mean 'group'? – 4"),
        (["algorithm.name=ppo"], "algorithm.name – must be one of 'direct', 'refl', 'draft', 'draft-lv', 'grpo', 'dpo' – 'ppo'"),
        (["algorithm={name: grpo, group: 1}"], "algorithm.group – Input should be greater than or equal to 2 – 1"),
        (["algorithm={name: dpo, pairs: samples, samples: 4, top: 3}"], "the best and the worst samples overlap"),
        (["algorithm={name: refl, late: [0.9, 0.1]}"], "the lower first"),
        (["algorithm={name: grpo, updates: 2}", "training.accumulate=2"], "do not go together"),
        (["algorithm={name: dpo, dpo_beta: 5}"], "algorithm.dpo_beta – renamed to 'algorithm.beta' – 5"),
    ],
)
def test_an_algorithm_has_its_own_keys_alone(overrides, line):
    with pytest.raises(UserError) as caught:
        recipes.load("demo", "rlhf", overrides)
    assert line in str(caught.value)


def test_overrides_choose_an_algorithm_and_its_keys():
    chosen = recipes.load("demo", "rlhf", ["algorithm.name=grpo", "algorithm.group=4"]).algorithm
    assert chosen == GrpoSettings(name="grpo", group=4)
    assert recipes.load("demo", "rlhf").algorithm == DirectSettings()


def test_another_algorithm_leaves_behind_what_the_recipe_says_of_its_own():
    shipped = recipes.load("refl-sd-x4", "rlhf").algorithm
    chosen = recipes.load("refl-sd-x4", "rlhf", ["algorithm.name=draft", "algorithm.last=2"]).algorithm
    assert chosen == DraftSettings(name="draft", hinge=shipped.hinge, anchor=shipped.anchor, last=2)
    with pytest.raises(UserError, match="a key of refl, not of draft"):
        recipes.load("refl-sd-x4", "rlhf", ["algorithm.name=draft", "algorithm.late=[0.5, 1.0]"])


@pytest.mark.parametrize("model", ["RlhfRecipe", *recipes_of_algorithms()])
def test_every_key_is_described(model):
    def undescribed(cls, prefix=""):
        for name, field in cls.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from undescribed(field.annotation, f"{prefix}{name}.")
            elif not field.description and name != "name":
                yield prefix + name

    cls = getattr(rlhf, model, None) or getattr(algorithms, model)
    assert cls.__doc__
    assert list(undescribed(cls)) == []
