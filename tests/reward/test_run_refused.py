"""Trainings that are refused before their first step: in sentences, and with nothing left behind."""

import re

import pytest
from accelerate.utils import LoggerType
from small_reward import SMALL

from fgr import recipe
from fgr.errors import UserError
from fgr.reward import run
from fgr.reward.run import train_reward_model


def test_bad_wishes_are_sentences(data, overrides, trained, tmp_path):
    def attempt(*keys, out=tmp_path / "rm"):
        train_reward_model(recipe.load("tiny", "reward", (*overrides, *keys)), str(data), out, device="cpu")

    with pytest.raises(UserError, match=r"crops of 128 pixels do not fit into the 96-pixel images(.|\n)*data\.crop=96"):
        attempt("data.crop=128")
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        attempt("encoder.name=resnt18")
    with pytest.raises(UserError, match="no table 'consensus'"):
        attempt("loss.human_score=1")
    with pytest.raises(UserError, match="none among its training rows"):
        attempt("loss.preference=1")
    with pytest.raises(UserError, match="too few for 5 stages"):
        attempt("stages=[1,1,1,1,1,1]")
    assert not (tmp_path / "rm").exists()
    with pytest.raises(UserError, match=r"another recipe:\n  seed: 0 there, 1 here"):
        attempt("seed=1", out=trained)
    with pytest.raises(UserError, match=r"encoder\.train=lora and encoder\.lora_rank > 0 go"):
        attempt("encoder.train=lora")


def test_a_tracker_that_is_absent_or_does_not_begin_is_told_before_training(data, overrides, tmp_path, monkeypatch):
    def attempt(name):
        train_reward_model(
            recipe.load("tiny", "reward", (*overrides, f"trackers=[{name}]")), str(data), tmp_path / name, device="cpu"
        )

    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD])
    with pytest.raises(UserError, match=r"tracker wandb is not installed(.|\n)*pip install wandb"):
        attempt("wandb")
    assert not (tmp_path / "wandb").exists()
    monkeypatch.undo()
    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.start", lambda self: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(UserError, match=r"\(tensorboard\) could not be started: no room(.|\n)*metrics\.jsonl is always written"):
        attempt("tensorboard")


def test_weights_that_are_absent_are_missed_before_anything_is_written(data, overrides, tmp_path, monkeypatch):
    def absent(name, *_):
        raise UserError(f"The weights of {name} are not available.")

    monkeypatch.setattr(run, "open_base", absent)
    with pytest.raises(UserError, match="The weights of clipiqa are not available"):
        train_reward_model(recipe.load("tiny", "reward", (*overrides, "base.name=clipiqa")), str(data), tmp_path / "rm", "cpu")
    assert not (tmp_path / "rm").exists()


def no_network(monkeypatch):
    """No weights of the Hub, which does not answer."""
    from fgr import hub_files

    def refused(*_, **__):
        raise hub_files.Unavailable(hub_files.UNREACHABLE, "no route to it")

    monkeypatch.setattr(hub_files, "fetch", refused)
    monkeypatch.setattr(hub_files, "cached", lambda *_: None)


def test_a_refused_start_names_everything_at_once_leaves_no_folder_and_its_remedies_work(data, tmp_path, monkeypatch):
    no_network(monkeypatch)
    out = tmp_path / "rm"
    with pytest.raises(UserError) as refused:
        train_reward_model(recipe.load(None, "reward", ["data.crop=1024", "training.precision=no"]), str(data), out, "cpu")
    said = str(refused.value)
    assert "crops of 1024 pixels do not fit" in said
    assert "weights of 'resnet50_clip.openai' are not on this machine" in said
    assert "CLIP RN50, which clipiqa needs" in said
    assert not out.exists()
    crop, *encoders, base = re.findall(r"[a-z]+\.[a-z_]+=[\w-]+", said)
    assert (crop, base) == ("data.crop=96", "base.name=full-reference")
    assert encoders == ["encoder.name=tf_efficientnet_lite0", "encoder.name=tiny", "encoder.pretrained=false"]
    for encoder in encoders:
        chosen = recipe.load(None, "reward", [*SMALL, encoder, base, "training.precision=no"])
        run._Trainer(chosen, str(data), out, "cpu")
        assert not out.exists()


def test_a_mistake_after_the_start_leaves_a_folder_that_takes_the_corrected_recipe(data, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise UserError("Not this way.")

    monkeypatch.setattr(run._Trainer, "_initial_model", refused)
    chosen, out = recipe.load("tiny", "reward", SMALL), tmp_path / "rm"
    with pytest.raises(UserError, match="Not this way"):
        train_reward_model(chosen, str(data), out, "cpu")
    assert not out.exists()
    out.mkdir()
    with pytest.raises(UserError, match="Not this way"):
        train_reward_model(chosen, str(data), out, "cpu")
    assert list(out.iterdir()) == []
