"""Gap closure, by hand."""

import numpy as np
import pytest

from fgr.metrics import gap_closure
from fgr.metrics.gap_closure import Gap

PHOTOGRAPHS = ["a", "a", "b", "b"]
START, REFERENCE = np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 7.0, 8.0])


def moved(share):
    return Gap(START, START + share * (REFERENCE - START), REFERENCE)


def test_a_closure_is_the_gain_over_the_gap_whatever_the_unit_and_the_direction():
    found = gap_closure.closure(moved(0.25), PHOTOGRAPHS)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    smaller = Gap(-100 * START, -100 * (START + 0.25 * (REFERENCE - START)), -100 * REFERENCE, better=-1)
    assert gap_closure.closure(smaller, PHOTOGRAPHS).value == pytest.approx(0.25)
    one = Gap(START, START + np.array([2, 2, 0, 0]), REFERENCE)  # photograph a is done, b not begun: 4 of 12
    found = gap_closure.closure(one, PHOTOGRAPHS)
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high) == (0, 1)
    assert gap_closure.by_photograph(one, PHOTOGRAPHS) == {"a": pytest.approx(2 / 3), "b": 0}


def test_the_lead_is_of_pairs():
    """Both figures swing with the photograph, and alike: their difference does not."""
    swings = np.array([1.0, 1.0, 0.0, 0.0])
    ahead, behind = (Gap(START, START + share + swings, START + 2) for share in (1.0, 0.2))
    found = gap_closure.lead([ahead], [behind], PHOTOGRAPHS)
    assert (found.value, found.low, found.high) == pytest.approx((0.4, 0.4, 0.4))
    found = gap_closure.lead([ahead], [behind, ahead], PHOTOGRAPHS)
    assert found.value == pytest.approx(0.2)
    assert gap_closure.lead([ahead, behind], [], PHOTOGRAPHS).value == pytest.approx(0.55)


def test_crops_of_one_photograph_give_no_interval():
    rng = np.random.default_rng(0)
    output = START + rng.normal(0, 1, 4)
    found = gap_closure.closure(Gap(START, output, REFERENCE), ["a"] * 4)
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high]).all()
    assert found.surely_above == found.value
    many, few = (gap_closure.closure(Gap(START, output, REFERENCE), list(names)) for names in ("abcd", "aabb"))
    assert many.surely_above == many.low != few.low


def test_a_figure_that_does_not_put_the_references_above_the_start_has_no_gap_to_close():
    turned = Gap(REFERENCE, REFERENCE - 1, START)
    unsure = Gap(START, START + 1, START + np.array([2, 2, -1, -1]))
    for gap in (turned, unsure):
        assert np.isnan(gap_closure.closure(gap, PHOTOGRAPHS).value)
        assert gap_closure.by_photograph(gap, PHOTOGRAPHS) == {}
    assert gap_closure.lead([moved(0.5)], [turned, moved(0.1)], PHOTOGRAPHS).value == pytest.approx(0.4)
    for sides in (([turned], [moved(0.1)]), ([moved(0.5)], [turned])):
        assert np.isnan(gap_closure.lead(*sides, PHOTOGRAPHS).value)


def test_the_ceiling_is_the_share_above_their_own_reference():
    gap = Gap(START, REFERENCE + np.array([1, 1, 0, -1]), REFERENCE)
    found = gap_closure.above_reference(gap, PHOTOGRAPHS)
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    assert gap_closure.above_reference(Gap(START, REFERENCE + 1, REFERENCE, better=-1), PHOTOGRAPHS).value == 0


def test_values_that_are_not_finite_or_not_paired_are_refused():
    with pytest.raises(ValueError, match="finite values of the same images"):
        Gap(START, START[:2], REFERENCE)
    with pytest.raises(ValueError, match="finite values of the same images"):
        Gap(START, START * np.nan, REFERENCE)
