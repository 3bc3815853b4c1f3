"""Statistics by hand, intervals as wide as what is drawn makes them, and the power that the assumptions give."""

import math

import numpy as np
import pytest

from bench.claims import protocol, report, statistics


def test_statistics_by_hand():
    assert statistics.instability([0, 1, 2, 3, 4]) == 0  # a steady rise
    assert statistics.instability([0, 1, 0, 1]) == pytest.approx(math.sqrt(4 / 6))  # second differences −2 and 2
    noise = np.random.default_rng(0).normal(0, 0.3, 4000) + np.arange(4000)
    assert statistics.instability(noise.tolist()) == pytest.approx(0.3, abs=0.01)
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": math.nan}) == pytest.approx({"a": 0.03, "b": 0.08, "c": 1.0})
    assert statistics.ratio([2, 2, 2], [1, 1, 1], 100).value == pytest.approx(2)
    found = statistics.over_units([1.0, 2.0, 3.0], 1000)
    assert found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)  # Student's t with two degrees of freedom
    assert (found.value, found.n) == (2, 3)
    assert found.p == pytest.approx(0.0371, abs=1e-3)
    assert statistics.sign_test(5, 0) == pytest.approx(1 / 32)
    assert statistics.sign_test(0, 0) == 1


def test_an_interval_is_as_wide_as_models_and_photographs_make_it():
    rng = np.random.default_rng(1)
    models, photos = rng.normal(0, 1, (20, 1)), rng.normal(0, 1, (1, 64))
    wide, narrow = (statistics.crossed(1 + values, 2000) for values in (models + photos, 0 * models + photos))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    assert wide.low < 1 < wide.high
    assert statistics.crossed(np.full((15, 64), 0.1), 500).p < 0.01 < statistics.crossed(models + photos, 500).p


def test_power_is_stated_and_is_what_the_assumptions_give():
    assert statistics.power(0.405, 0.51, 20, 0.05) == pytest.approx(0.92, abs=0.01)
    assert statistics.power(0.0, 1.0, 20, 0.05) == pytest.approx(0.05, abs=1e-6)
    said = report.planned(protocol.load("night"))
    assert "claim2: effect 0.405, power 0.92, 0.81 after Holm" in said
    assert "What people prefer" in said
    assert all(one in report.planned(protocol.load("cpu")) for one in protocol.load("cpu").cannot)
