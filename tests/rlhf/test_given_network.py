"""Networks that were tuned elsewhere, audited; and what a run does with figures that known defects mislead."""

import json

import pytest
from safetensors.torch import load_file, save_file
from small_rlhf import logged, small

import fgr
from fgr.errors import UserError
from fgr.report import page
from fgr.rlhf import reward_stages
from fgr.rlhf.given_network import audit_network
from fgr.rlhf.run import tune
from fgr.rlhf.trained_reward import Reward

PLAIN = ("reward.plain=[rm-stage:0]", "curriculum.schedule=none", "audit.images=4")


@pytest.fixture
def blind(monkeypatch):
    """A reward that fine structure raises, whatever it is: a lattice is as good as texture."""

    def energy(image):
        return [(image[..., 1:] - image[..., :-1]).abs().mean((1, 2, 3))]

    monkeypatch.setattr(reward_stages, "plain_reward", lambda *arguments: Reward("energy", energy, {"energy": 1.0}))


@pytest.fixture
def lattice(network_files, tmp_path):
    """The small network, drawing a lattice of period 2 over everything."""
    state = load_file(network_files["compact"].partition(":")[2])
    last = max((name for name in state if name.endswith("bias")), key=lambda name: int(name.split(".")[1]))
    state[last] = state[last].clone()
    state[last][::2] += 0.06
    save_file(state, tmp_path / "lattice.safetensors")
    return f"spandrel:{tmp_path / 'lattice.safetensors'}"


def test_a_lattice_raises_an_alarm_the_start_itself_and_a_network_tuned_on_l1_none(sources, blind, lattice, tmp_path):
    generator, reward, data = sources
    found = audit_network(small(*PLAIN), generator, lattice, reward, data, tmp_path / "hacked", "cpu")
    assert found["verdict"][0].startswith("Reward hacking: by the trained reward ")
    assert found["hacking_index"] > 0.3
    assert (found["alarms"], found["audited"]["name"]) == ([0], lattice)
    assert found == json.loads((tmp_path / "hacked" / "summary.json").read_text())
    again = fgr.tune(small(*PLAIN), generator, reward, data, tmp_path / "hacked", audit=lattice, device="cpu")  # finished: read
    assert again == found
    anchored = ("reward.ratio=1.0e-6", "anchor.reference=2", "training.lr=3.0e-3", "audit.every=8")
    tune(small(*PLAIN, *anchored), generator, reward, data, tmp_path / "l1", "cpu")  # by the anchor to the reference alone
    for number, name in enumerate((generator, "bicubic", f"spandrel:{tmp_path / 'l1' / 'last.safetensors'}")):
        found = audit_network(small(*PLAIN), generator, name, reward, data, tmp_path / f"audited-{number}", "cpu")
        assert found["verdict"][0] == "No sign of reward hacking."
        assert found["alarms"] == []
    moved = {row["metric"]: row["difference"] for row in found["metrics"]}
    assert moved["distance"] > 0.5  # far enough that an alarm at any change would be raised
    assert moved["psnr"] > 0
    with pytest.raises(UserError, match="another recipe"):
        audit_network(small(*PLAIN), generator, "bicubic", reward, data, tmp_path / "hacked", "cpu")


def test_figures_are_of_the_split_that_chose_nothing(sources, tmp_path):
    generator, reward, data = sources
    found = audit_network(small(), generator, "bicubic", reward, data, tmp_path / "run", "cpu")
    assert found["split"] == "test"
    text = page.write(tmp_path / "run", tmp_path / "report.html", rows=1, samples=1).read_text()
    assert "of the untuned network and of bicubic;" in text
    assert "best.safetensors" not in text
    found = audit_network(small("audit.test_split=validation"), generator, "bicubic", reward, data, tmp_path / "other", "cpu")
    assert found["split"] == "validation"
    with pytest.raises(UserError, match=r"audit\.test_split is 'train', which the policy is tuned on"):
        audit_network(small("audit.test_split=train"), generator, "bicubic", reward, data, tmp_path / "more", "cpu")


def test_planted_defects_take_the_vote_of_figures_that_prefer_them(sources, blind, tmp_path):
    """The trained reward prefers grain: said at the start, and in the summary's table."""
    out = tmp_path / "run"
    found = tune(small(*PLAIN, "audit.planted=1", "training.steps=2"), *sources, out, "cpu")
    rows = {(row["figure"], row["kind"], row["on"]): row for row in found["planted"]}
    assert rows["reward_0", "grain", "start"]["says"] == "wrong"
    assert rows["ssim", "grain", "reference"]["says"] == "right"
    assert "ssim" not in found["without_vote"]
    said = [line["reason"] for line in logged(out, "event") if line["event"] == "planted"]
    assert len(said) == 1
    assert "grain" in said[0]
    roles = {row["figure"]: row["role"] for row in found["closures"]}
    assert roles["ssim"] == "index"
    assert all(roles[name] == "no vote" for name in found["without_vote"] if name in roles)


def test_an_independent_reward_model_judges_where_it_lies_beside_the_trained_one(sources, reward_run, tmp_path):
    import shutil

    shutil.copytree(reward_run, tmp_path / "reward")
    shutil.copytree(reward_run / "stage-1", tmp_path / "reward" / "judge")
    generator, _, data = sources
    found = audit_network(small(), generator, "bicubic", str(tmp_path / "reward"), data, tmp_path / "run", "cpu")
    assert "judge" in {row["role"] for row in found["closures"]}
    assert {"judge_0", "rm0_score"} <= {row["metric"] for row in found["metrics"]}
