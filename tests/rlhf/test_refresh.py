"""Stages renewed on the policy's own composites before they take over."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_rlhf import interrupted_after, small

from fgr import recipe as recipes
from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.images import codec
from fgr.recipe.rlhf import Refresh
from fgr.records import MASK_KINDS
from fgr.reward.model import FinPercepRM
from fgr.rlhf import inputs, refresh
from fgr.rlhf.policies import open_policy
from fgr.rlhf.run import tune
from fgr.rlhf.setup import Setup
from fgr.sr import parse_name
from fgr.training.directory import Run


def test_a_refreshed_stage_learns_from_the_policys_own_composites_and_is_resumed_from(sources, reward_run, tmp_path, monkeypatch):
    recipe = small("curriculum.refresh={steps: 2, composites: 4, lr: 0.001}", "data.batch=1")
    out = tmp_path / "run"
    with interrupted_after(monkeypatch, 3), pytest.raises(KeyboardInterrupt):
        tune(recipe, *sources, out, "cpu")
    renewed = load_file(out / "reward" / "stage-1" / "model.safetensors")
    original = load_file(reward_run / "stage-1" / "model.safetensors")
    assert any(not torch.equal(renewed[name], original[name]) for name in original)
    tune(recipe, *sources, out, "cpu")
    assert (out / "reward" / "stage-2" / "model.safetensors").is_file()
    shutil.copytree(out / "reward", tmp_path / "kept")
    whole = tmp_path / "whole"
    tune(recipe, *sources, whole, "cpu")
    a, b = load_file(out / "last.safetensors"), load_file(whole / "last.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_stage_is_refreshed_by_its_own_recipe(tmp_path):
    chosen = recipes.load("hardened", "reward", ["loss.human_score=2"])
    Run(tmp_path / "rm").start("reward", recipes.resolved(chosen), {})
    for named in (tmp_path / "rm", tmp_path / "rm" / "stage-1"):
        found = refresh.recipe_of(named)
        assert found.loss == chosen.loss.model_copy(update={"human_score": 0.0})
        assert (found.planted, found.training) == (chosen.planted, chosen.training)
    assert refresh.recipe_of(tmp_path / "elsewhere" / "rm") == refresh.UNKNOWN


@pytest.fixture(scope="module")
def composites(sources):
    """Composites of a policy's outputs, and the rows of the dataset that they join."""
    data = inputs.open_inputs(sources[2], "train", 4, 64)
    maker = refresh.CompositeMaker(Path(sources[2]), "cpu")
    return maker.rows(open_policy(parse_name(sources[0])), data, 4, 0, torch.device("cpu")), data.rows


def renewed(reward_run, composites, recipe):
    """The weights of RM_1 after two steps by the recipe of a reward model."""
    model = FinPercepRM.from_pretrained(reward_run / "stage-1")
    how = {"crop": 64, "batch": 2, "seed": 0, "device": torch.device("cpu"), "recipe": recipe}
    return refresh.refreshed(model, *composites, Refresh(steps=2), **how).state_dict()


@pytest.mark.parametrize(
    "change",
    [
        "loss.rank_of=image",
        "planted={share: 1, unseen: 0}",
        "training.randomize=true",
        "training.encoder_lr=1",
        "encoder.train=deepest",
    ],
)
def test_every_part_of_the_recipe_counts(reward_run, composites, change):
    before = FinPercepRM.from_pretrained(reward_run / "stage-1").state_dict()
    plain, own = (recipes.load("tiny", "reward", given) for given in ([], [change]))
    first, second = (renewed(reward_run, composites, recipe) for recipe in (plain, own))
    assert any(not torch.equal(first[name], second[name]) for name in first)
    frozen = [name for name in before if torch.equal(second[name], before[name]) and not torch.equal(first[name], before[name])]
    assert bool(frozen) == (own.encoder.train == "deepest")


def test_curriculum_recipes_renew_stages_and_a_single_stage_is_never_renewed(sources, tmp_path):
    assert all(recipes.load(name, "rlhf").curriculum.refresh.steps for name in ("ccl-realesrgan", "ccl-swinir", "ccl-stablesr"))
    assert not Setup(small("curriculum={schedule: none, refresh: {steps: 2}}"), *sources, tmp_path / "run", "cpu").refreshes


def dividing(tiny, folder, segments):
    """A copy of the dataset whose recipe has semantic masks alone, of these segments."""
    copy = shutil.copytree(tiny, folder)
    made = manifest.read(copy)
    made["recipe"]["masks"] |= {
        "kinds": {kind: float(kind == "semantic") for kind in MASK_KINDS}, "segments": segments, "area": [0.5, 0.5],
        "feather": [0, 0],
    }  # fmt: skip
    (copy / "fgr.json").write_text(json.dumps(made))
    return copy


def test_composites_of_the_policy_are_of_the_datasets_own_segments(sources, tmp_path, monkeypatch):
    class Halves:
        def segments(self, image):
            return np.arange(image.shape[1], dtype=np.int32)[None].repeat(image.shape[0], 0) // (image.shape[1] // 2)

    asked = []
    monkeypatch.setattr(refresh, "open_segments", lambda name, device: asked.append(name) or Halves())
    maker = refresh.CompositeMaker(dividing(sources[2], tmp_path / "data", "sam:some/model"), "cpu")
    data = inputs.open_inputs(sources[2], "train", 4, 64)
    rows = maker.rows(open_policy(parse_name(sources[0])), data, 4, 0, torch.device("cpu"))
    assert asked == ["sam:some/model"]
    assert rows
    for row in rows:
        mask = codec.decode_mask(row["mask"]["bytes"]) > 0.5
        assert {mask[:, :60].mean(), mask[:, -60:].mean()} == {0.0, 1.0}


def test_segments_that_cannot_be_had_are_refused_before_anything_is_written(sources, tmp_path):
    data = dividing(sources[2], tmp_path / "data", f"sam:{tmp_path}/nowhere")
    with pytest.raises(UserError, match=r"There is no folder .*nowhere"):
        tune(small("curriculum.refresh.steps=2"), sources[0], sources[1], str(data), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
