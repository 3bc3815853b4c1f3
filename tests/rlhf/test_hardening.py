"""Rounds of training, tuning and mining: one call, resumed where it stopped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_rlhf import SMALL

from fgr import api, recipe
from fgr.dataset import cells, tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.reward import mined
from fgr.reward.pretrained import load_reward_model, load_stages
from fgr.rlhf import hardening
from fgr.rlhf.refresh import CompositeMaker
from fgr.tensors import file_digest
from fgr.training import directory as runs

TRAINED = (
    "data={crop: 64, batch: 2, workers: 0, validation: 2}", "base.steps=1", "stages=[1,2]", "model.width=16", "planted.share=0.5",
    "training.randomize=true", "training.validate_every=2", "training.checkpoint_every=2",
)  # fmt: skip


def hardened(generator, **changes):
    chosen = recipe.load("tiny", "reward", TRAINED)
    tune = (*SMALL, "training.steps=2", "training.warmup=0")
    mining = {"rounds": 1, "generators": (generator,), "tune": tune, "images": 3, "share": 0.5} | changes
    return chosen.model_copy(update={"mined": chosen.mined.model_copy(update=mining)})


def test_a_model_is_trained_again_with_what_policies_made_against_it(sources, tmp_path, monkeypatch):
    generator, _, data = sources
    chosen, out = hardened(generator), tmp_path / "rm"

    def interrupted(path, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mined, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            api.train_reward_model(chosen, data, out, device="cpu")
    folder = out / ".fgr" / "round-0"
    finished = {path: path.stat().st_mtime_ns for path in (folder / "tuned-0").rglob("*.safetensors")}
    assert finished
    assert not (folder / "mined.parquet").exists()

    assert api.train_reward_model(chosen, data, out, device="cpu") == out / "stage-1"
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    rows = mined.read([folder / "mined.parquet"])
    assert len(rows) == 3
    assert all(row["start"] != row["tuned"] for row in rows)
    assert runs.read(out)["facts"]["mined"] == {"rows": 3, "digest": mined.digest(rows)}
    assert "mined" not in runs.read(folder / "reward")["facts"]
    tuned = runs.read(folder / "tuned-0")["recipe"]
    assert (tuned["curriculum"]["schedule"], tuned["audit"]["on_hacking"], tuned["reward"]["draws"]) == ("none", "continue", 4)
    before = (out / "run.json").stat().st_mtime_ns
    api.train_reward_model(chosen, data, out, device="cpu")  # a finished one is left as it is
    assert (out / "run.json").stat().st_mtime_ns == before


def test_later_trainings_may_go_on_from_the_model_before(sources, tmp_path, monkeypatch):
    generator, _, data = sources
    out = tmp_path / "rm"
    averaged = []
    train = hardening.train_reward_model
    monkeypatch.setattr(hardening, "train_reward_model", lambda *given: (averaged.append(given[6:]), train(*given))[1])
    chosen = hardened(generator, rounds=2, steps=1, images=2, average=2)
    api.train_reward_model(chosen, data, out, device="cpu")
    assert averaged == [(), (), ([out / ".fgr" / "round-1" / "reward"],)]  # the last one with that of the round before
    rounds = [out / ".fgr" / f"round-{number}" / "reward" for number in range(2)]
    assert [runs.read(run)["recipe"]["stages"] for run in (*rounds, out)] == [[1, 2], [1, 1], [1, 1]]
    assert not (rounds[1] / "stage-0").exists()
    begun = [runs.read(run)["facts"]["begin"] for run in (rounds[1], out)]
    assert begun == [file_digest(run / "stage-1" / "model.safetensors") for run in rounds]
    stages = load_stages(out)  # a curriculum finds all of them
    assert [stage.stage for stage in stages] == [0, 1]
    first = load_stages(rounds[0])[0].state_dict()
    assert all(torch.equal(value, first[name]) for name, value in stages[0].state_dict().items())
    moved = load_reward_model(rounds[1]).state_dict()
    assert not all(torch.equal(value, moved[name]) for name, value in stages[1].state_dict().items())

    on = tmp_path / "on"  # a recipe that begins with a model has its first round tuned against that one
    again = hardened(generator, steps=1, images=2).model_copy(update={"begin": str(out)})
    api.train_reward_model(again, data, on, device="cpu")
    assert not (on / ".fgr" / "round-0" / "reward").exists()
    assert runs.read(on)["facts"]["begin"] == file_digest(out / "stage-1" / "model.safetensors")
    assert [stage.stage for stage in load_stages(on)] == [0, 1]


def test_every_network_is_tuned_by_every_adversary(sources, monkeypatch):
    generator, _, data = sources
    tuned = []
    monkeypatch.setattr(hardening, "tune", lambda chosen, name, reward, data, run, device: tuned.append((name, chosen, run.name)))
    chosen = hardened(generator, adversaries=((), ("training.steps=9", "reward.ratio=3")))
    runs_of = list(hardening._tuned(chosen, 0, "rm", data, Path("round-0"), "cpu"))
    assert [(name, run.name) for name, run in runs_of] == [(generator, "tuned-0"), (generator, "tuned-1")]
    assert [(one.training.steps, one.reward.ratio) for _, one, _ in tuned] == [(2, tuned[0][1].reward.ratio), (9, 3)]

    tuned.clear()
    chosen = hardened(generator, rounds=2, harder_rounds=1, harder_adversaries=(("reward.ratio=6",),))
    for number in range(2):
        list(hardening._tuned(chosen, number, "rm", data, Path(f"round-{number}"), "cpu"))
    assert [one.reward.ratio for _, one, _ in tuned] == [recipe.load("demo", "rlhf").reward.ratio, 6]


def test_what_is_mined_lies_on_the_way_and_beyond():
    start, made = np.full((1, 1, 3), 100, np.uint8), np.full((1, 1, 3), 104, np.uint8)
    assert [int(hardening._scaled(start, made, share)[0, 0, 0]) for share in hardening.SHARES] == [102, 104, 106]
    assert hardening._scaled(start, np.full((1, 1, 3), 255, np.uint8), 1.5).max() == 255


def test_outputs_have_the_maps_that_the_dataset_gives_them(sources):
    """Of the dataset's own SR outputs: the map is sr_map."""
    maker = CompositeMaker(Path(sources[2]), "cpu")
    for row in list(tables.read_shard(tables.shards(sources[2], "samples", "train")[0]))[:2]:
        found = maker.whole_map(cells.pixels(row, "reference"), cells.pixels(row, "sr"))
        assert np.array_equal(codec.quantised(found), cells.pixels(row, "sr_map"))


def test_what_rounds_would_stumble_over_is_said_before_anything_is_trained(sources, older, tmp_path):
    generator, _, data = sources
    for chosen, where, sentence in (
        (hardened(generator), str(tmp_path), "is not a dataset directory with its fgr.json"),
        (hardened(generator), str(older), "has no sr_map"),
        (hardened("bicubic"), data, "there is nothing to tune"),
        (hardened("realesrgann"), data, "did you mean 'realesrgan'"),
    ):
        with pytest.raises(UserError, match=sentence):
            hardening.train_hardened(chosen, where, tmp_path / "rm", "cpu")
    odd = hardened(generator)
    odd = odd.model_copy(update={"mined": odd.mined.model_copy(update={"tune": ("training.stepps=3",)})})
    with pytest.raises(UserError, match="stepps"):
        hardening.train_hardened(odd, data, tmp_path / "rm", "cpu")
    with pytest.raises(UserError, match="stepps"):
        hardening.train_hardened(hardened(generator, adversaries=((), ("training.stepps=3",))), data, tmp_path / "rm", "cpu")
    later = hardened(generator, rounds=2, harder_rounds=1, harder_adversaries=(("training.stepps=3",),))
    with pytest.raises(UserError, match="stepps"):
        hardening.train_hardened(later, data, tmp_path / "rm", "cpu")
    assert not (tmp_path / "rm").exists()


def test_a_tuned_network_is_hardly_audited_unless_the_recipe_says_so():
    """Planted defects in every audit of a round would take longer than the training."""
    audit = hardening.tuning_recipe(recipe.load("hardened", "reward"), 1, ()).audit
    assert (audit.planted, audit.on_hacking) == (0, "continue")
    assert audit.images <= 4
