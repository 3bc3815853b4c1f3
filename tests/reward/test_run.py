"""What one run trains, and what it writes while it does."""

import itertools
import os
import signal

import pytest
import torch
from small_reward import losses

from fgr import recipe
from fgr.errors import UserError
from fgr.reward import run
from fgr.reward.evaluate import evaluate_reward_model
from fgr.reward.pretrained import load_reward_model, stages_of
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs
from fgr.training.optimization import Optimization


def test_one_run_trains_every_stage(trained):
    assert [path.name for path in stages_of(trained)] == ["stage-0", "stage-1"]
    models = [load_reward_model(trained / name) for name in ("base", "stage-0", "stage-1")]
    assert [model.stage for model in models] == [0, 0, 1]
    assert models[0].decoder is None
    assert load_reward_model(trained).decoder is not None
    for before, after in itertools.pairwise(models):
        weights = after.state_dict()
        moved = [name for name, value in before.named_parameters() if not torch.equal(value, weights[name])]
        assert len(moved) == len(list(before.parameters()))
    assert 0 < float(models[0].score_std) < 0.5
    assert 0.5 < float(models[0].score_mean) < 1


def test_metrics_tell_every_step(trained, overrides):
    lines = runs.metrics(trained)
    steps = {
        name: [x["step"] for x in lines if x["phase"] == name and x["split"] == "train"]
        for name in ("base", "stage-0", "stage-1")
    }
    assert steps == {"base": [1, 2, 3, 4], "stage-0": [1, 2, 3], "stage-1": [1, 2, 3, 4]}
    last = [line for line in lines if line["split"] == "validation"][-1]
    assert {"total", "map", "rank", "align", "ap", "cc", "triplets"} <= last.keys()
    first = next(line for line in lines if line["phase"] == "stage-1")
    told = recipe.load("tiny", "reward", overrides).loss
    weighted = sum(getattr(told, name) * first[name] for name in ("map", "map_rank", "rank", "align"))
    assert first["total"] == pytest.approx(weighted, rel=1e-5)


def test_a_loss_that_is_not_a_number_stops_the_run(data, overrides, tmp_path):
    with pytest.raises(UserError, match="is not a number in step"):
        train_reward_model(
            recipe.load("tiny", "reward", (*overrides, "training.lr=1e30", "training.warmup=0")),
            str(data),
            tmp_path / "rm",
            "cpu",
        )


def test_a_hurried_run_gives_a_model_that_sees_something(data, tmp_path):
    """The demo recipe at twice its rate and a fraction of its steps: neither map nor score may collapse to a constant."""
    keys = ("data.crop=64", "data.batch=4", "base.steps=8", "stages=[4,32]")
    hurried = recipe.load("tiny", "reward", (*keys, "training.lr=2e-3", "training.validate_every=40"))
    train_reward_model(hurried, str(data), tmp_path / "rm", device="cpu")
    found = evaluate_reward_model(str(tmp_path / "rm"), str(data), "test", None, "cpu")
    assert found["maps"]["model"]["ap"] > found["maps"]["constant"]["ap"] + 0.15
    assert found["maps"]["model"]["cc"] > 0.35
    assert found["empty"]["clean"]["mean"] < 0.6
    assert found["clean"]["std"] > 1e-4


def test_a_tracker_gets_every_figure_at_steps_that_never_go_back(data, overrides, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_reward_model(
        recipe.load("tiny", "reward", (*overrides, "trackers=[tensorboard]")), str(data), tmp_path / "rm", device="cpu"
    )
    events = EventAccumulator(str(tmp_path / "rm" / "logs" / "fgr-reward")).Reload()
    steps = {phase: [event.step for event in events.Scalars(f"{phase}/train/total")] for phase in ("base", "stage-0", "stage-1")}
    assert steps == {"base": [1, 2, 3, 4], "stage-0": [5, 6, 7], "stage-1": [8, 9, 10, 11]}
    logged = [line["total"] for line in runs.metrics(tmp_path / "rm") if line["phase"] == "stage-1" and line["split"] == "train"]
    assert [event.value for event in events.Scalars("stage-1/train/total")] == pytest.approx(logged)


def test_lora_and_accumulation_train_only_what_they_should(data, overrides, tmp_path):
    keys = ("encoder.train=lora", "encoder.lora_rank=2", "training.accumulate=2", "loss.map_kind=l1", "loss.rank_kind=logistic")
    train_reward_model(recipe.load("tiny", "reward", (*overrides, *keys)), str(data), tmp_path / "rm", device="cpu")
    base, last = (dict(load_reward_model(tmp_path / "rm" / name).named_parameters()) for name in ("base", "stage-1"))
    frozen = [name for name in base if name.startswith("encoder.") and not name.endswith((".0.a", ".0.b"))]
    assert len(frozen) > 10
    assert all(torch.equal(base[name], last[name]) for name in frozen)
    assert not any(torch.equal(base[name], last[name]) for name in base if name not in frozen)


PLANTED = (
    "planted.share=0.6",
    "planted.unseen=0.4",
    "planted.held_out=[ringing]",
    "base.steps=1",
    "stages=[2,3]",
    "data.batch=3",
)


def test_planted_defects_are_trained_on_in_every_stage_and_a_resumed_run_plants_the_same(data, overrides, tmp_path):
    chosen = recipe.load("tiny", "reward", (*overrides, *PLANTED))
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train_reward_model(chosen, str(data), whole, device="cpu")
    lines = runs.metrics(whole)
    steps = [line for line in lines if line["split"] == "train"]
    assert all("score_pairs" not in line for line in steps if line["phase"] == "base")
    for phase, names in (("stage-0", ("score_pairs",)), ("stage-1", ("score_pairs", "map_pairs", "steady"))):
        for name in names:
            assert any(line[name] > 0 for line in steps if line["phase"] == phase), (phase, name)
    assert 0 <= [line for line in lines if line["split"] == "validation"][-1]["planted"] <= 1

    def stop(self):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    step = Optimization.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Optimization, "step", stop)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train_reward_model(chosen, str(data), resumed, device="cpu")
    train_reward_model(chosen, str(data), resumed, device="cpu")
    assert losses(resumed) == losses(whole)


def test_every_stage_but_not_the_first_phase_is_trained_on_randomised_copies(data, overrides, tmp_path, monkeypatch):
    from fgr.reward import criterion

    judged, randomized = [], criterion.randomized

    def noted(images, seed):
        judged.append(seed)
        return randomized(images, seed)

    monkeypatch.setattr(criterion, "randomized", noted)
    keys = (*overrides, "training.randomize=true", "base.steps=2", "stages=[2,1]", "training.validate_every=100")
    train_reward_model(recipe.load("tiny", "reward", keys), str(data), tmp_path / "rm", device="cpu")
    assert len(judged) == 3 + 2 * 2  # the steps of RM_0 and RM_1, and two rows' validation at the end of each
    assert len(set(judged[:2])) == 2


def test_defects_are_planted_on_references_alone_where_the_dataset_is_of_version_0_1(
    data, overrides, tmp_path, capsys, monkeypatch
):
    opened = run.splits.open_split
    monkeypatch.setattr(run.splits, "open_split", lambda *given: opened(*given).remove_columns("sr_map"))
    keys = (*overrides, *PLANTED, "stages=[1]")
    train_reward_model(recipe.load("tiny", "reward", keys), str(data), tmp_path / "rm", device="cpu")
    assert "no sr_map" in (said := capsys.readouterr().err)
    assert "defects are planted on references alone" in said
