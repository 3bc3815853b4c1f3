"""What a run does when its reward is hacked."""

import pytest
import torch
from safetensors.torch import load_file
from small_rlhf import logged, opened, small

from fgr.rlhf import audit, reward_stages
from fgr.rlhf.run import tune
from fgr.rlhf.trained_reward import Reward

HACKED = (
    "reward.plain=[rm-stage:0]",
    "curriculum.schedule=none",
    "audit.rise=0",
    "audit.fall=0",
    "training.lr=0.02",
    "anchor.start=0.01",
)


@pytest.fixture
def hackable(monkeypatch):
    """A reward that darkening the image raises: the held-out metrics fall at once."""
    darkness = Reward("darkness", lambda image: [-image.mean((1, 2, 3))], {"darkness": 1.0}, 0.0)
    monkeypatch.setattr(reward_stages, "plain_reward", lambda *arguments: darkness)


def test_an_alarm_stops_the_run_and_the_best_is_not_the_hacked_network(sources, hackable, tmp_path):
    found = tune(small(*HACKED, "audit.on_hacking=stop"), *sources, tmp_path / "run", "cpu")
    assert found["ended"] == "reward hacking in step 4"
    assert (found["alarms"], found["best_step"], found["steps"]) == ([4], 0, 4)
    alarm = next(line for line in logged(tmp_path / "run", "event") if line["event"] == "alarm")
    assert alarm["fidelity"] < 0
    assert "last_stage" not in alarm  # a stage of the same run is no independent witness
    assert logged(tmp_path / "run", "audit")[-1]["alarm"] is True


def test_continuing_only_logs_the_alarm_and_audits_can_begin_late(sources, hackable, tmp_path):
    late = ("audit.every=2", "audit.first=5")
    found = tune(small(*HACKED, *late, "audit.on_hacking=continue"), *sources, tmp_path / "run", "cpu")
    assert (found["alarms"], found["ended"], found["steps"], found["rollbacks"]) == ([6, 8], "", 8, 0)
    assert [line["step"] for line in logged(tmp_path / "run", "audit")] == [0, 6, 8]


def test_a_network_under_an_alarm_is_never_the_best_whatever_the_held_out_metrics_say(sources, hackable, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "is_better", lambda verdict, best: True)
    found = tune(small(*HACKED, "audit.on_hacking=continue"), *sources, tmp_path / "run", "cpu")
    assert (found["alarms"], found["best_step"]) == ([4, 8], 0)


def test_a_rollback_restores_the_best_weights_exactly(sources, hackable, tmp_path):
    recipe = small(*HACKED, "audit.on_hacking=rollback", "training.steps=4")
    _, loop = opened(recipe, sources, tmp_path / "run")
    loop.fit()
    start = load_file(sources[0].partition(":")[2])
    assert (loop.state.step, loop.state.curriculum.rollbacks) == (4, 1)
    for weights in (loop.policy.learned(), loop.state.ema):
        assert all(torch.equal(value, start[name]) for name, value in weights.items())


def test_too_many_rollbacks_end_the_run(sources, hackable, tmp_path):
    overrides = (*HACKED, "audit.on_hacking=rollback", "curriculum.adaptive.rollbacks=1")
    found = tune(small(*overrides), *sources, tmp_path / "run", "cpu")
    assert (found["rollbacks"], found["alarms"]) == (1, [4, 8])
    assert "after 1 rollbacks" in found["ended"]
    start, best = load_file(sources[0].partition(":")[2]), load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(best[name], start[name]) for name in start)
