"""Changes in standard deviations, by hand."""

import numpy as np
import pytest

from fgr.metrics.gap_closure import Estimate
from fgr.rlhf import changes
from fgr.rlhf.changes import Changes, MetricRole

START = {"psnr": np.array([20.0, 22.0]), "ms_ssim": np.array([0.8, 1.0]), "niqe": np.array([3.0, 5.0]), "distance": np.zeros(2)}
METRICS = {
    "psnr": MetricRole("fidelity", 1),
    "ms_ssim": MetricRole("fidelity", 1),
    "niqe": MetricRole("naturalness", -1),
    "distance": MetricRole("distance", -1, counts=False),
}


def test_a_change_is_counted_in_deviations_over_the_images_larger_being_better():
    assert changes.change(np.array([20.0, 22.0]), np.array([21.0, 22.0])).tolist() == [1.0, 0.0]
    assert changes.change(np.array([3.0, 5.0]), np.array([4.0, 5.0]), better=-1).tolist() == [-1.0, 0.0]
    with pytest.raises(ValueError, match="paired finite"):
        changes.change(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="paired finite"):
        changes.change(np.array([1.0, 2.0]), np.array([1.0]))


def test_the_held_out_figure_is_the_mean_of_its_groups():
    now = {"psnr": np.array([21.0, 23.0]), "ms_ssim": np.array([0.8, 1.0]), "niqe": np.array([4.0, 6.0]), "distance": np.ones(2)}
    found = changes.measured(START, now, METRICS, (np.array([0.0, 2.0]), np.array([2.0, 4.0])), ["a", "b"])
    assert found.groups == {"fidelity": pytest.approx(0.5), "naturalness": pytest.approx(-1.0)}
    assert found.held_out.value == pytest.approx(-0.25)
    assert found.reward == pytest.approx(2.0)
    one = changes.measured(START, now, METRICS, (np.array([0.0, 2.0]), np.array([2.0, 4.0])), ["a", "a"])
    assert np.isnan(one.held_out.low)  # of one photograph there is no interval


def test_nothing_that_counts_gives_a_held_out_change_of_zero():
    reward = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    found = changes.measured(START, START, {"distance": METRICS["distance"]}, reward, ["a", "b"])
    assert (found.held_out.value, found.groups) == (0.0, {})


@pytest.mark.parametrize(
    ("reward", "held_out", "high", "hacked"),
    [
        (1.0, -0.5, -0.2, True),
        (1.0, -0.5, 0.1, False),  # the fall may be chance
        (1.0, -0.1, -0.05, False),  # too small a fall
        (0.2, -0.5, -0.2, False),  # the reward has not risen: bad, but no hacking
        (2.0, 0.3, 0.5, False),
        (1.0, -0.5, float("nan"), True),  # one photograph has no interval: its value is all there is
    ],
)
def test_an_alarm_needs_a_rise_and_a_sure_fall(reward, held_out, high, hacked):
    found = Changes(reward, Estimate(held_out, float("nan"), high), {"fidelity": held_out})
    assert bool(changes.fell_while_the_reward_rose(found, rise=0.5, fall=0.25)) is hacked


def test_no_single_figure_without_a_reference_makes_a_network_the_best():
    """NIQE takes grain for texture."""
    bought = Changes(1.0, Estimate(0.5, 0.4, 0.6), {"consistency": -0.2, "naturalness": 1.7, "rm0": 0.0})
    assert bought.least == pytest.approx(-0.1)
    assert Changes(1.0, Estimate(0.2, 0.1, 0.3), {"consistency": 0.1, "rm0": 0.3}).least == pytest.approx(0.2)


def test_start_and_end_are_compared_image_by_image():
    end = START | {"niqe": np.array([2.0, 5.5])}
    rows = {row["metric"]: row for row in changes.compared(START, end, METRICS, ["a", "b"])}
    assert rows["niqe"]["difference"] == pytest.approx(-0.25)
    assert rows["niqe"]["won"] == 0.5
    assert (rows["psnr"]["difference"], rows["psnr"]["low"], rows["psnr"]["won"]) == (0.0, 0.0, 0.0)
    assert rows["distance"]["counts"] is False
