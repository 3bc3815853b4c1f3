"""Networks audited on datasets that lack splits: an audit needs the one that it reads."""

import json
from pathlib import Path

import pytest
from small_rlhf import small

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.generate.run import generate
from fgr.rlhf.given_network import audit_network
from fgr.rlhf.run import tune


@pytest.fixture(scope="module")
def of_one_split(tiny_overrides, tmp_path_factory):
    """Makes a dataset of photographs put aside: all in the split of this name."""

    def made(split):
        out = tmp_path_factory.mktemp("data") / split
        shares = {name: float(name == split) for name in ("train", "validation", "test")}
        overrides = (*tiny_overrides, "severity=[0.0, 1.0]")
        chosen = recipes.load("demo", "generate", overrides, {"models": ["bicubic"], "samples": 12, "splits": shares})
        assert generate(chosen, out, workers=1, device="cpu")
        return str(out)

    return made


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_network_is_audited_on_a_dataset_of_that_split_alone(sources, of_one_split, split, tmp_path, capsys):
    generator, reward, _ = sources
    data = of_one_split(split)
    found = audit_network(small("audit.planted=1"), generator, "bicubic", reward, data, tmp_path / "run", "cpu")
    assert found["split"] == split
    said = f"has no split 'train': natural images and the reward's units are those of '{split}'"
    assert capsys.readouterr().err.count(said) == 1
    assert {"ssim", "niqe", "last_stage_score"} <= {row["metric"] for row in found["metrics"]}
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["facts"]["data"]
    assert len(set(facts.values())) == 1


def test_an_audit_has_no_curriculum_and_needs_no_stages(sources, tmp_path):
    generator, reward, data = sources
    stage = str(sorted(Path(reward).glob("stage-*"))[-1])
    recipe = small("curriculum.schedule=blend")
    found = audit_network(recipe, generator, "bicubic", stage, data, tmp_path / "run", "cpu")
    assert "last_stage_score" in {row["metric"] for row in found["metrics"]}
    with pytest.raises(UserError, match="A curriculum needs a reward model with stages"):
        tune(recipe, generator, stage, data, tmp_path / "tuned", "cpu")


def test_without_a_split_to_audit_on_it_is_said_which_were_looked_for(sources, of_one_split, tmp_path):
    generator, reward, _ = sources
    data = of_one_split("train")
    said = r"has neither a split 'test' \(audit.test_split\) nor 'validation' \(audit.split\): there is nothing to audit"
    with pytest.raises(UserError, match=said):
        audit_network(small(), generator, "bicubic", reward, data, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_tuning_still_needs_the_split_that_it_trains_on(sources, of_one_split, tmp_path):
    generator, reward, _ = sources
    with pytest.raises(UserError, match="has no split 'train'"):
        tune(small(), generator, reward, of_one_split("test"), tmp_path / "run", "cpu")
    with pytest.raises(UserError, match="has no split 'validation'"):
        tune(small(), generator, reward, of_one_split("train"), tmp_path / "run", "cpu")
