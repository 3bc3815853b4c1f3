"""What maps are made of: read from a dataset, kept by a run, compared before figures are believed."""

import json
import shutil

import pytest

from fgr import recipe
from fgr.cli import app
from fgr.reward import label_definition
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs

TOLERANT = {"pixel": "ssim-tolerant", "features": "gradient", "alpha": 0.9, "smooth": 4.0}


def state(directory, **map_):
    """Give a dataset's folder a manifest whose recipe makes maps so."""
    content = {"recipe": {"map": map_ | {"percentile": 99.0}}, "models": [], "calibration": {}, "shards": []}
    (directory / "fgr.json").write_text(json.dumps(content))


def test_a_definition_is_read_and_compared(tmp_path):
    state(tmp_path, **TOLERANT)
    assert label_definition.of_dataset(str(tmp_path)) == TOLERANT
    state(tmp_path, features="gradient", alpha=0.7, smooth=4.0)  # before there were names of pixel differences
    older = label_definition.of_dataset(str(tmp_path))
    assert older["pixel"] == "l1"
    assert (
        label_definition.difference(TOLERANT, older) == "pixel difference ssim-tolerant there, l1 here, alpha 0.9 there, 0.7 here"
    )
    assert "learned maps of another definition" in label_definition.note("rm", TOLERANT, str(tmp_path))


def test_where_nothing_is_stated_nothing_is_said(tmp_path):
    assert label_definition.of_dataset("org/name") is None
    assert label_definition.of_dataset(str(tmp_path)) is None
    assert label_definition.note("rm", TOLERANT, str(tmp_path)) == ""
    state(tmp_path, **TOLERANT)
    assert label_definition.note("rm", None, str(tmp_path)) == ""
    assert label_definition.note("rm", TOLERANT, str(tmp_path)) == ""


def test_a_run_keeps_it_goes_on_with_it_and_is_warned_of_another(data, overrides, tmp_path):
    from typer.testing import CliRunner

    of_its_own = tmp_path / "data"
    shutil.copytree(data, of_its_own)
    state(of_its_own, **TOLERANT)
    chosen = recipe.load("tiny", "reward", (*overrides, "base.steps=1", "stages=[1]", "data.validation=1"))
    train_reward_model(chosen, str(of_its_own), tmp_path / "rm", device="cpu")
    assert runs.read(tmp_path / "rm")["facts"]["maps"] == TOLERANT
    train_reward_model(chosen, str(of_its_own), tmp_path / "rm", device="cpu")  # a finished run is the same run
    state(of_its_own, **TOLERANT | {"pixel": "l1"})
    command = ["evaluate", "--reward", str(tmp_path / "rm"), "--data", str(of_its_own), "--parts", "labels", "--device", "cpu"]
    outcome = CliRunner().invoke(app, [*command, "--limit", "2", "--out", str(tmp_path / "e.json")])
    assert outcome.exit_code == 0, outcome.output
    assert "pixel difference ssim-tolerant there, l1 here" in outcome.stderr
    assert "another definition" in json.loads((tmp_path / "e.json").read_text())["notes"][0]


def test_a_run_from_before_goes_on_without_one(trained, data, overrides, tmp_path):
    run, of_its_own = tmp_path / "rm", tmp_path / "data"
    shutil.copytree(trained, run)
    shutil.copytree(data, of_its_own)
    state(of_its_own, **TOLERANT)
    assert "maps" not in runs.read(run)["facts"]  # its dataset stated none
    assert train_reward_model(recipe.load("tiny", "reward", overrides), str(of_its_own), run, device="cpu") == run / "stage-1"
    assert "maps" not in runs.read(run)["facts"]


@pytest.mark.parametrize("content", ["{}", "not json"])
def test_a_damaged_manifest_states_nothing(tmp_path, content):
    (tmp_path / "fgr.json").write_text(content)
    assert label_definition.of_dataset(str(tmp_path)) is None
