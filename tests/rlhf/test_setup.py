"""What a run needs is checked before anything is written: the recipe against the models, the data and the folder."""

import json

import pytest
from small_rlhf import small

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.rlhf.run import tune
from fgr.rlhf.setup import Setup


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["curriculum.steps=[2, 6]"], "curriculum.steps has 2 values, the reward model 3 stages"),
        (["curriculum.strictness=[0.1]"], "curriculum.strictness has 1 values, the reward model has maps in 2 stages"),
        (["curriculum.schedule=none", "curriculum.stage=7"], "no stage 7"),
        (["training.steps=2"], "2 steps are not enough for 3 stages"),
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


def test_opening_everything_writes_nothing(sources, tmp_path):
    Setup(small(), *sources, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_of_an_earlier_version_is_not_resumed(sources, tmp_path):
    recipe = recipes.resolved(small())
    recipe["algorithm"] = {"name": "direct", "late": [0.75, 1.0], "group": 8, "dpo_beta": 2000.0}
    content = {"fgr": "0.1.0", "kind": "rlhf", "recipe": recipe, "facts": {}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="begun by an earlier version of fgr, and only that version can resume it"):
        tune(small(), *sources, tmp_path, "cpu")
