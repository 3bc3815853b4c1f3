"""Tuned against a control with the anchor alone."""

import pytest
from small_rlhf import small

from fgr.rlhf.run import tune
from fgr.rlhf.usefulness import control_recipe

SHORT = ("curriculum.schedule=none", "training.steps=4", "audit.control=true", "audit.sheet=0", "audit.images=2")


def test_the_control_is_the_recipe_without_the_reward():
    recipe = small(*SHORT)
    control = control_recipe(recipe)
    assert (control.reward.ratio, control.audit.control, control.curriculum.schedule) == (1e-20, False, "none")
    assert (control.anchor, control.training, control.data) == (recipe.anchor, recipe.training, recipe.data)


def test_a_run_is_compared_with_its_control_at_equal_distance(sources, tmp_path):
    found = tune(small(*SHORT, "anchor.reference=2"), *sources, tmp_path / "run", "cpu")["control"]
    assert [row["figure"] for row in found["figures"]] == ["ssim"]
    row = found["figures"][0]
    assert row["difference"] == pytest.approx(row["tuned"] - row["control"])
    assert found["distance"] == pytest.approx(min(found["moved"].values()))
    assert (tmp_path / "run" / "control" / "last.safetensors").is_file()
    assert "8-bit steps (RMS) off the start, tuning" in found["words"] or not min(found["moved"].values())


def test_an_anchor_that_pulls_nowhere_is_no_control(sources, tmp_path):
    found = tune(small(*SHORT, "anchor={start: 1.0, consistency: 0}"), *sources, tmp_path / "run", "cpu")
    assert "pulls to the start" in found["control"]["words"]
