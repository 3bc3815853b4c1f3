"""The audit's verdicts, by hand."""

import numpy as np
import pytest

from fgr.rlhf import audit
from fgr.rlhf.audit import MetricRole, Verdict

START = {"psnr": np.array([20.0, 22.0]), "ms_ssim": np.array([0.8, 1.0]), "niqe": np.array([3.0, 5.0]), "distance": np.zeros(2)}
METRICS = {
    "psnr": MetricRole("fidelity", 1),
    "ms_ssim": MetricRole("fidelity", 1),
    "niqe": MetricRole("naturalness", -1),
    "distance": MetricRole("distance", -1, counts=False),
}


def test_a_change_is_counted_in_deviations_over_the_images_larger_being_better():
    assert audit.change(np.array([20.0, 22.0]), np.array([21.0, 22.0])).tolist() == [1.0, 0.0]
    assert audit.change(np.array([3.0, 5.0]), np.array([4.0, 5.0]), better=-1).tolist() == [-1.0, 0.0]
    with pytest.raises(ValueError, match="paired finite"):
        audit.change(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="paired finite"):
        audit.change(np.array([1.0, 2.0]), np.array([1.0]))


def test_the_held_out_figure_is_the_mean_of_its_groups_and_the_index_what_the_reward_gained_more():
    now = {"psnr": np.array([21.0, 23.0]), "ms_ssim": np.array([0.8, 1.0]), "niqe": np.array([4.0, 6.0]), "distance": np.ones(2)}
    verdict = audit.assess(START, now, METRICS, (np.array([0.0, 2.0]), np.array([2.0, 4.0])))
    assert verdict.groups == {"fidelity": pytest.approx(0.5), "naturalness": pytest.approx(-1.0)}
    assert verdict.held_out == pytest.approx(-0.25)
    assert verdict.reward == pytest.approx(2.0)
    assert verdict.hacking_index == pytest.approx(2.25)


def test_nothing_that_counts_gives_a_held_out_change_of_zero():
    verdict = audit.assess(START, START, {"distance": METRICS["distance"]}, (np.array([0.0, 1.0]), np.array([1.0, 2.0])))
    assert (verdict.held_out, verdict.held_out_high, verdict.groups) == (0.0, 0.0, {})


@pytest.mark.parametrize(
    ("reward", "held_out", "high", "hacked"),
    [
        (1.0, -0.5, -0.2, True),
        (1.0, -0.5, 0.1, False),  # the fall may be chance
        (1.0, -0.1, -0.05, False),  # too small a fall
        (0.2, -0.5, -0.2, False),  # the reward has not risen: bad, but no hacking
        (2.0, 0.3, 0.5, False),
        (7.0, 0.3, 0.5, True),  # it outran the held-out metrics by 6.7
    ],
)
def test_an_alarm_needs_a_rise_and_a_sure_fall_or_a_rise_that_outruns_the_held_out_metrics(reward, held_out, high, hacked):
    assert bool(audit.is_hacked(Verdict(reward, held_out, high, {}), rise=0.5, fall=0.25, outrun=5.0)) is hacked


def test_the_best_is_chosen_by_the_held_out_metrics_whatever_the_reward():
    assert audit.is_better(Verdict(-5.0, 0.1, 0.2, {}), None)
    assert audit.is_better(Verdict(-5.0, 0.2, 0.3, {}), 0.1)
    assert not audit.is_better(Verdict(9.0, 0.05, 0.3, {}), 0.1)


def test_start_and_end_are_compared_image_by_image():
    end = START | {"niqe": np.array([2.0, 5.5])}
    rows = {row["metric"]: row for row in audit.compared(START, end, METRICS)}
    assert rows["niqe"]["difference"] == pytest.approx(-0.25)
    assert rows["niqe"]["won"] == 0.5
    assert (rows["psnr"]["difference"], rows["psnr"]["low"], rows["psnr"]["won"]) == (0.0, 0.0, 0.0)
    assert rows["distance"]["counts"] is False
