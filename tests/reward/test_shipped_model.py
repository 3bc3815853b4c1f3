"""The reward model inside the package: small, the default, and right about a picture that it never saw."""

import json

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from typer.testing import CliRunner

from fgr import recipe as recipes
from fgr.cli import app
from fgr.reward.pretrained import SHIPPED_FOLDER, folder_of, load_judge, load_reward_model
from fgr.reward.probes import Planting
from fgr.reward.score import score
from fgr.shipped import REWARD_MODEL
from fgr.sr import Job, open_upscaler
from fgr.training import directory as runs


@pytest.fixture(scope="module")
def model():
    return load_reward_model()


@pytest.fixture(scope="module")
def rocket():
    """A launch pad with lattice towers, and the same restored from a quarter of its size."""
    reference = np.ascontiguousarray(data.rocket()[:424, :640])
    low = cv2.resize(reference, (160, 106), interpolation=cv2.INTER_AREA)
    (restored,) = open_upscaler("realesr-animevideov3", scale=4).upscale([Job(low, "rocket", low.shape[:2], (0, 0, 106))])
    return reference, restored


def test_it_is_small_and_says_what_it_is():
    assert sum(file.stat().st_size for file in SHIPPED_FOLDER.rglob("*") if file.is_file()) < 15e6
    card = (SHIPPED_FOLDER / "README.md").read_text(encoding="utf-8")
    for words in ("Apache-2.0", "What it cannot see", "Photographs", "fgr train-rm fgr-lite"):
        assert words in card


def test_it_says_what_it_never_saw_and_is_what_the_recipe_makes():
    trained = runs.read(folder_of(REWARD_MODEL))
    assert recipes.completed(trained["recipe"], "reward") == recipes.resolved(recipes.load("fgr-lite-hardened", "reward"))
    twin = runs.read(SHIPPED_FOLDER / "judge")
    assert recipes.completed(twin["recipe"], "reward") == recipes.resolved(recipes.load("fgr-lite", "reward"))
    assert trained["facts"]["data"] == twin["facts"]["data"]
    planting = Planting.of_recipe(trained["recipe"])
    assert set(planting.held_out) == {"ringing", "warp"}
    assert set(planting.held_out_periods) == {4}


def test_towers_that_were_wrecked_are_marked_and_the_sky_is_not(model, rocket):
    (clean, clean_map), (wrecked, map_) = (score(model, image) for image in rocket)
    assert wrecked < clean - 0.1
    left, right, sky = (slice(40, 300), slice(20, 75)), (slice(40, 300), slice(590, 640)), (slice(40, 280), slice(230, 300))
    assert map_[right].mean() > 1.4 * map_[sky].mean()
    assert map_[left].mean() > 1.4 * map_[sky].mean()  # which lost its grain
    assert map_[left].mean() > clean_map[left].mean() + 0.1
    assert map_[sky].mean() < 0.2
    assert clean_map[40:300].mean() < 0.1


def test_its_twin_is_the_judge_of_what_is_tuned_against_it(rocket):
    judge = load_judge(REWARD_MODEL)
    assert judge is not None
    assert not torch.equal(judge.norm.weight, load_reward_model().norm.weight)
    (clean, _), (wrecked, _) = (score(judge, image) for image in rocket)
    assert wrecked < clean - 0.1


def test_what_is_planted_lowers_the_score(model, rocket):
    reference, restored = rocket
    rows, columns = np.mgrid[: reference.shape[0], : reference.shape[1]]
    dots = 16 * ((rows % 3 == 0) & (columns % 3 == 0))[..., None]
    for image in (reference, restored):
        lattice = np.clip(image.astype(int) + dots, 0, 255).astype(np.uint8)
        assert score(model, lattice)[0] < score(model, image)[0] - 0.05


def test_fgr_score_needs_nothing_else(rocket, tmp_path):
    for name, image in zip(("reference", "restored"), rocket, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    result = CliRunner().invoke(app, ["score", str(tmp_path / "reference.png"), str(tmp_path / "restored.png"), "--json"])
    assert result.exit_code == 0, result.output
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["score"] > second["score"]
