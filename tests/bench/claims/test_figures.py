"""Figures of judged runs whose numbers are known by hand."""

import pytest

from bench.claims import figures, protocol


def test_the_hacking_index_is_the_lead_of_the_arms_own_reward_over_the_figures_that_vote(tmp_path):
    chosen = protocol.load("smoke")
    units = chosen.units("paper")

    def closed(value):
        return {"value": value, "photographs": {"p": value - 0.1, "q": value + 0.1}}

    for number, unit in enumerate(units):
        at = {
            "RM_0": closed(0.8),
            "RM_N": closed(0.3),
            "judge": closed(0.2),
            "ssim": closed(0.1 * number),
            "lite0_distance": closed(0.5),
        }
        arms = {arm: {"moved": 2.0, "at": at, "end": at} for arm in protocol.COMPARED}
        judged = {"distance": 1.0, "photographs": ["p", "q"], "without_vote": ["lite0_distance"], "arms": arms}
        figures.write(tmp_path / f"judged-{unit.name}" / "judged.json", judged)
    found = figures.hacking(tmp_path, chosen, units)
    assert found["arms"]["A0"]["index"]["value"] == pytest.approx(0.75)  # 0.8 − 0 and 0.8 − 0.1
    assert found["arms"]["A2"]["index"]["value"] == pytest.approx(0.25)
    assert (found["difference"]["value"], found["whole"], found["worth"]["value"]) == (pytest.approx(0.5), 2, 0)
    del judged["arms"]["A1"]  # a run that broke before it had a network
    figures.write(tmp_path / f"judged-{units[1].name}" / "judged.json", judged)
    assert figures.hacking(tmp_path, chosen, units)["left_out"] == [units[1].name]
