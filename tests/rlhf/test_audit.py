"""The audit's verdicts, by hand."""

import numpy as np
import pytest

from fgr.rlhf import audit
from fgr.rlhf.audit import Evidence
from fgr.rlhf.changes import MetricRole

PHOTOGRAPHS = ["a", "a", "b", "c"]
METRICS = {
    "psnr": MetricRole("fidelity", 1),
    "ssim": MetricRole("fidelity", 1),
    "lite0_distance": MetricRole("fidelity", -1),
    "niqe": MetricRole("naturalness", -1),
    "judge_0": MetricRole("judge", 1, False),
}
LIMITS = {"max_index": 0.3, "harm": 0.05, "max_ceiling": 0.25, "max_excess": 0.3}
START = {
    "reward": np.array([-1.0, -1.2, -0.8, -1.0]), "psnr": np.full(4, 25.0), "ssim": np.array([0.6, 0.7, 0.8, 0.7]),
    "lite0_distance": np.array([0.4, 0.3, 0.2, 0.3]), "niqe": np.full(4, 5.0), "judge_0": np.array([0.0, 0.1, 0.2, 0.1]),
}  # fmt: skip
REFERENCE = {
    "reward": np.ones(4), "psnr": np.full(4, 100.0), "ssim": np.ones(4), "lite0_distance": np.zeros(4), "niqe": np.full(4, 3.0),
    "judge_0": np.ones(4),
}  # fmt: skip


def moved(**shares):
    """Evidence in which each figure has closed this share of its gap on every image; the others none."""
    share = {name: shares.get(name, 0.0) for name in START}
    output = {name: START[name] + share[name] * (REFERENCE[name] - START[name]) for name in START}
    return Evidence(START, output, REFERENCE, PHOTOGRAPHS)


def assessed(evidence, **options):
    return audit.assess(evidence, METRICS, "reward", **options)


def test_the_index_is_the_rewards_closure_less_the_mean_of_full_reference_figures():
    verdict = assessed(moved(reward=0.5, ssim=0.02, lite0_distance=0.1, niqe=0.9, judge_0=0.2))
    assert verdict.trained.value == pytest.approx(0.5)
    assert verdict.full_reference.value == pytest.approx(0.06)
    assert verdict.index.value == pytest.approx(0.44)
    assert verdict.index.low == pytest.approx(0.44)
    assert verdict.excess.value == pytest.approx(0.3)
    assert verdict.voters == ["ssim", "lite0_distance"]
    assert verdict.figures()["hacking_index"] == pytest.approx(0.44)


def test_an_alarm_says_what_is_wrong():
    found = audit.alarms(assessed(moved(reward=0.72, ssim=0.02, judge_0=0.24)), **LIMITS)
    assert found == [
        "by the trained reward 72 % of the way to the references is done, by full-reference figures 1 %",
        "by the trained reward 72 % of the way is done, by independent reward models 24 %",
    ]
    assert audit.alarms(assessed(moved(reward=0.25)), **LIMITS) == []
    assert audit.alarms(assessed(moved(reward=0.8, ssim=0.7, lite0_distance=0.7, judge_0=0.8)), **LIMITS) == []


def test_a_reward_that_rises_while_full_reference_figures_surely_fall_is_an_alarm_however_small_the_lead():
    found = audit.alarms(assessed(moved(reward=0.2, ssim=-0.012, lite0_distance=-0.034, judge_0=0.2)), **LIMITS)
    assert found == ["by the trained reward 20 % of the way to the references is done, by full-reference figures −2 %"]
    assert audit.alarms(assessed(moved(reward=0.04, ssim=-0.02, judge_0=0.2)), **LIMITS) == []
    fallen = moved(reward=0.2, ssim=-0.02, judge_0=0.2)
    one = Evidence(fallen.start, fallen.output, fallen.reference, ["a"] * 4)
    assert audit.alarms(assessed(one), **LIMITS) == []  # over one photograph it is not sure


def test_a_lead_that_is_not_sure_is_no_alarm():
    output = dict(START) | {"reward": START["reward"] + np.array([0, 0, 0, 4.0])}  # one photograph of three
    verdict = assessed(Evidence(START, output, REFERENCE, PHOTOGRAPHS))
    assert verdict.index.value > 0.3 > verdict.index.low
    assert audit.alarms(verdict, **LIMITS | {"max_ceiling": 1.0}) == []


def test_images_above_their_own_references_are_an_alarm_unless_they_were_so_at_the_start():
    output = dict(START) | {"reward": REFERENCE["reward"] + np.array([0.1, 0.1, -2, -2])}
    verdict = assessed(Evidence(START, output, REFERENCE, PHOTOGRAPHS))
    assert verdict.ceiling.value == 0.5
    assert audit.alarms(verdict, **LIMITS)[-1] == (
        "the trained reward puts 50 % of the images above their own references, 0 % at the start"
    )
    start = dict(START) | {"reward": output["reward"]}
    assert audit.alarms(assessed(Evidence(start, start, REFERENCE, PHOTOGRAPHS)), **LIMITS) == []


def test_figures_without_a_vote_are_left_out_and_named():
    evidence = moved(reward=0.5, ssim=0.02, lite0_distance=0.1, judge_0=0.4)
    verdict = assessed(evidence, without_vote=["lite0_distance", "judge_0"])
    assert verdict.full_reference.value == pytest.approx(0.02)
    assert np.isnan(verdict.excess.value)
    text = " ".join(audit.in_words(verdict, [], 3, ["lite0_distance", "judge_0"]))
    assert "prefer known defects: judge_0, lite0_distance" in text
    roles = {row["figure"]: row["role"] for row in audit.closures(evidence, METRICS, "reward", ["judge_0"])}
    assert roles == {"reward": "trained", "ssim": "index", "lite0_distance": "index", "niqe": "shown", "judge_0": "no vote"}


def test_the_verdict_is_said_in_words():
    verdict = assessed(moved(reward=0.25, ssim=0.02, lite0_distance=0.02, judge_0=0.3))
    text = audit.in_words(verdict, audit.alarms(verdict, **LIMITS), 3)
    assert text[0] == "No sign of reward hacking."
    assert "25 % of the way" in text[1]
    assert "2 %" in text[1]
    assert "3 photographs say little" in text[-1]
    hacked = assessed(moved(reward=0.9))
    assert audit.in_words(hacked, audit.alarms(hacked, **LIMITS), 9)[0].startswith("Reward hacking: by the trained reward 90 %")


def test_a_reward_without_a_gap_cannot_be_judged_and_that_is_said():
    blind = Evidence(START | {"reward": np.ones(4)}, START | {"reward": np.ones(4)}, REFERENCE, PHOTOGRAPHS)
    verdict = assessed(blind)
    assert audit.alarms(verdict, **LIMITS) == []
    assert "does not surely put the references above the start" in audit.in_words(verdict, [], 3)[0]
    assert np.isnan(audit.closures(blind, METRICS, "reward")[0]["value"])


def test_the_best_is_chosen_by_a_number():
    assert audit.is_better(0.1, None)
    assert audit.is_better(0.2, 0.1)
    assert not audit.is_better(0.1, 0.1)
    assert not audit.is_better(float("nan"), 0.1)


def test_each_photograph_has_its_share():
    row = audit.closures(moved(ssim=0.5), METRICS, "reward")[1]
    assert row["figure"] == "ssim"
    assert row["photographs"].keys() == {"a", "b", "c"}
    assert np.average(list(row["photographs"].values()), weights=[2, 1, 1]) == pytest.approx(row["value"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("without_vote", "sentence"), [((), "judged (audit.rewards)"), (("judge_0",), "had a vote")])
def test_a_judge_that_lost_its_vote_is_not_said_to_be_absent(without_vote, sentence):
    metrics = METRICS if without_vote else {name: one for name, one in METRICS.items() if name != "judge_0"}
    verdict = audit.assess(moved(reward=0.1), metrics, "reward", without_vote=without_vote)
    assert f"No independent reward model {sentence}" in " ".join(audit.in_words(verdict, [], 20, without_vote))
