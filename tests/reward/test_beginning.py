"""Training that goes on from another reward model."""

import pytest
import torch

from fgr import recipe
from fgr.errors import UserError
from fgr.reward.pretrained import load_reward_model
from fgr.reward.run import train_reward_model
from fgr.tensors import file_digest
from fgr.training import directory as runs


@pytest.fixture(scope="module")
def going_on(trained, data, overrides, tmp_path_factory):
    """Three steps more of the last stage of the run `trained`."""
    out = tmp_path_factory.mktemp("beginning") / "rm"
    chosen = recipe.load("tiny", "reward", [*overrides, "stages=[1,3]", f"begin={trained}"])
    train_reward_model(chosen, str(data), out, device="cpu")
    return chosen, out


def test_only_the_last_stage_is_trained_from_the_weights_that_are_there(going_on, trained):
    _, out = going_on
    assert sorted(path.parent.name for path in out.glob("*/config.json")) == ["stage-1"]
    lines = [line for line in runs.metrics(out) if line["split"] == "train"]
    assert [(line["phase"], line["step"]) for line in lines] == [("stage-1", step) for step in (1, 2, 3)]
    assert lines[0]["align"] < 1e-3  # S_base is the model itself
    before, after = load_reward_model(trained).state_dict(), load_reward_model(out).state_dict()
    assert before.keys() == after.keys()
    far = max(float((before[name] - after[name]).abs().max()) for name in before if before[name].is_floating_point())
    assert 0 < far < 0.05


def test_what_it_went_on_from_is_recorded_and_expected(going_on, trained, data, tmp_path):
    chosen, out = going_on
    assert runs.read(out)["facts"]["begin"] == file_digest(trained / "stage-1" / "model.safetensors")
    other = tmp_path / "other"
    model = load_reward_model(trained)
    with torch.no_grad():
        model.norm.weight += 1
    model.save_pretrained(other)
    with pytest.raises(UserError, match="begin:"):
        train_reward_model(chosen.model_copy(update={"begin": str(other)}), str(data), out, device="cpu")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.gate=paper", "gate: 'concat' there, 'paper' by the recipe"),
        ("stages=[1,1,1]", "stages: 1 there, 2 by the recipe"),
        ("begin=nowhere/rm", "nowhere"),
    ],
)
def test_a_model_that_cannot_be_gone_on_from_leaves_no_folder(change, sentence, trained, data, overrides, tmp_path):
    chosen = recipe.load("tiny", "reward", [*overrides, f"begin={trained}", change])
    with pytest.raises(UserError, match=sentence):
        train_reward_model(chosen, str(data), tmp_path / "rm", device="cpu")
    assert not (tmp_path / "rm").exists()


def test_the_mean_with_other_runs_of_the_training_is_kept(going_on, trained, data, tmp_path):
    chosen, alone = going_on
    out = tmp_path / "mean"
    train_reward_model(chosen, str(data), out, device="cpu", averaged_with=[trained])
    one, other, mean = (load_reward_model(run).state_dict() for run in (alone, trained, out))
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.allclose(value, (one[name] + other[name]) / 2, atol=1e-6), name


def test_a_mean_needs_rounds_that_go_on_from_each_other():
    for changes in (["mined.average=2"], ["mined.average=3", "mined.rounds=2", "mined.steps=5"]):
        with pytest.raises(UserError, match="average needs rounds"):
            recipe.load("hardened", "reward", ["mined.steps=0", *changes])


def test_harder_adversaries_come_in_the_last_rounds():
    mined = recipe.load("hardened", "reward", ["mined.rounds=3", "mined.harder_rounds=1"]).mined
    assert [mined.adversaries_of(number) for number in range(3)] == [mined.adversaries] * 2 + [mined.harder_adversaries]
    assert mined.harder_adversaries[-1] == ("training.steps=200", "audit.every=200", "reward.ratio=6", "data.batch=2")
    assert recipe.load("hardened", "reward", ["mined.rounds=1"]).mined.adversaries_of(0) == ((),)
    with pytest.raises(UserError, match="at most as many"):
        recipe.load("hardened", "reward", ["mined.rounds=1", "mined.harder_rounds=2"])
