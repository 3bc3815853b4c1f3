"""Runs that are begun again: finished, interrupted, after a crash, or with more steps to take."""

import os
import signal

import pytest
import torch
from small_reward import SMALL, losses
from typer.testing import CliRunner

from fgr import recipe
from fgr.cli import app
from fgr.errors import UserError
from fgr.reward.model import FinPercepRM
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs
from fgr.training.optimization import Optimization


def test_a_finished_run_is_left_as_it_is(trained, data, overrides):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    assert train_reward_model(recipe.load("tiny", "reward", overrides), str(data), trained, device="cpu") == trained / "stage-1"
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_an_interrupted_run_goes_on_to_the_same_numbers(trained, data, overrides, tmp_path, monkeypatch):
    """A signal in every second step, and on with it each time: the same losses, the same weights."""
    chosen, out = recipe.load("tiny", "reward", overrides), tmp_path / "rm"
    step, taken = Optimization.step, [0]

    def interrupted(self):
        taken[0] += 1
        if taken[0] % 2 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    monkeypatch.setattr(Optimization, "step", interrupted)
    interruptions = 0
    while not (out / "stage-1" / "config.json").exists():
        try:
            train_reward_model(chosen, str(data), out, device="cpu")
        except KeyboardInterrupt:
            interruptions += 1
        assert interruptions < 12
    assert interruptions >= 3
    assert losses(out) == losses(trained)
    for name in ("base", "stage-0", "stage-1"):
        one, other = (FinPercepRM.from_pretrained(folder / name).state_dict() for folder in (out, trained))
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("every", "damaged"), [(3, False), (1, True)])
def test_a_crash_after_the_checkpoint_is_made_good(trained, data, overrides, tmp_path, monkeypatch, capsys, every, damaged):
    """Steps that were logged after the last checkpoint are taken again and logged once; those after one that is damaged too."""
    chosen, out = recipe.load("tiny", "reward", (*overrides, f"training.checkpoint_every={every}")), tmp_path / "rm"
    log, logged = runs.Run.log, [0]

    def crash(self, **figures):
        log(self, **figures)
        logged[0] += 1
        if logged[0] == 4:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "log", crash)
        with pytest.raises(OSError, match="No space"):
            train_reward_model(chosen, str(data), out, device="cpu")
    if damaged:
        (out / "checkpoint.pt").write_bytes((out / "checkpoint.pt").read_bytes()[:500])
    train_reward_model(chosen, str(data), out, device="cpu")
    assert losses(out) == losses(trained)
    assert ("goes on from checkpoint-before.pt" in capsys.readouterr().err) == damaged


def test_train_rm_by_command_resumes(data, overrides, tmp_path):
    command = ["train-rm", "tiny", *overrides, "stages=[1]", "base.steps=1", "--data", str(data), "--out", str(tmp_path / "rm")]
    for _ in range(2):
        outcome = CliRunner().invoke(app, [*command, "--device", "cpu"])
        assert outcome.exit_code == 0, outcome.output
        assert outcome.stdout == f"{tmp_path / 'rm' / 'stage-0'}\n"


def test_more_steps_of_the_last_stage_extend_a_finished_run(data, tmp_path):
    out, log = (
        tmp_path / "rm",
        lambda: [(line["phase"], line["step"]) for line in runs.metrics(tmp_path / "rm") if line["split"] == "train"],
    )
    train_reward_model(recipe.load("tiny", "reward", SMALL), str(data), out, "cpu")
    before = log()
    longer = [*SMALL, "stages=[1, 3]"]
    assert train_reward_model(recipe.load("tiny", "reward", longer), str(data), out, "cpu") == out / "stage-1"
    assert [line for line in log() if line not in before] == [("stage-1", 2), ("stage-1", 3)]
    with pytest.raises(UserError, match=r"stages: \[1, 3\] there, \[2, 3\] here"):
        train_reward_model(recipe.load("tiny", "reward", [*SMALL, "stages=[2, 3]"]), str(data), out, "cpu")
