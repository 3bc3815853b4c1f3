"""What `fgr rlhf` hands on: the reward model that ships has one stage, so that no curriculum goes with it."""

import pytest
from typer.testing import CliRunner

from fgr import api
from fgr.cli import app
from fgr.shipped import REWARD_MODEL

COMMAND = ("rlhf", "demo", "--generator", "realesr-animevideov3", "--data", "out/demo", "--out", "out/tuned")


@pytest.fixture
def tuned(monkeypatch):
    """What `tune` was called with."""
    calls = []
    result = {"metrics": [], "ended": "", "best_step": 1, "steps": 1, "alarms": []}
    monkeypatch.setattr(api, "tune", lambda recipe, generator, reward, *_, **__: calls.append((recipe, reward)) or result)
    return calls


def test_without_a_reward_model_it_is_the_shipped_one_directly(tuned):
    done = CliRunner().invoke(app, COMMAND)
    assert done.exit_code == 0, done.output
    recipe, reward = tuned[0]
    assert (reward, recipe.curriculum.schedule) == (REWARD_MODEL, "none")
    assert "no --reward is named: fgr-lite" in done.stderr


def test_a_named_one_keeps_the_recipes_curriculum(tuned):
    done = CliRunner().invoke(app, [*COMMAND, "--reward", "out/rm"])
    assert done.exit_code == 0, done.output
    recipe, reward = tuned[0]
    assert (reward, recipe.curriculum.schedule) == ("out/rm", "blend")
    assert "no --reward" not in done.stderr
