"""Recipes that do not hold together, do not fit what they are given, or are shipped."""

import pytest
from small_rlhf import small

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.rlhf.run import tune


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["curriculum.steps=[2, 6]"], "curriculum.steps has 2 values, the reward model 3 stages"),
        (["curriculum.strictness=[0.1]"], "curriculum.strictness has 1 values, the reward model has maps in 2 stages"),
        (["curriculum.schedule=none", "curriculum.stage=7"], "no stage 7"),
        (["training.steps=2"], "2 steps do not suffice for 3 stages"),
        (["data.crop=64"], r"crops asked for are 64 \(data.crop\)"),
        (["audit.patch=128"], "cannot be fitted"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_written(sources, tmp_path, overrides, said):
    with pytest.raises(UserError, match=said):
        tune(small(*overrides), *sources, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_single_stage_has_no_curriculum(sources, reward_run, tmp_path):
    with pytest.raises(UserError, match="A curriculum needs a reward model with stages"):
        tune(small(), sources[0], str(reward_run / "stage-2"), sources[2], tmp_path / "run", "cpu")


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
        (["reward.score=0", "reward.map=0"], "nothing is left to climb"),
        (["anchor.start=0", "anchor.consistency=0"], "nothing holds the policy"),
        (["curriculum.stage=1"], "direct training"),
        (["audit.metrics=[ssim]"], "not ssim"),
    ],
)
def test_knobs_that_contradict_one_another_are_named(overrides, said):
    with pytest.raises(UserError, match=said):
        small(*overrides)


@pytest.mark.parametrize(
    "name",
    ["ccl-realesrgan", "ccl-swinir", "direct", "iqa-reward", "demo", "refl-sd-x4", "grpo-ldm-sr", "dpo-triplets", "ccl-stablesr"],
)
def test_the_shipped_recipes_load(name):
    assert recipes.load(name, "rlhf").name == name
