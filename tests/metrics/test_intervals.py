import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgr.metrics import intervals


def test_a_mean_leaves_out_what_is_not_finite_and_says_so():
    found = intervals.summary(np.array([1.0, 3.0, np.inf, np.nan]), ["a", "b", "c", "d"])
    assert (found["mean"], found["n"], found["left_out"]) == (2, 2, 2)


def test_images_of_one_photograph_are_no_evidence_of_their_own():
    assert all(math.isnan(end) for end in intervals.interval(np.arange(4.0), ["a"] * 4))
    spread = np.array([0.0] * 10 + [1.0] * 10)
    by_image = intervals.interval(spread, [str(i) for i in range(20)])
    by_photo = intervals.interval(spread, ["a"] * 10 + ["b"] * 10)
    assert by_photo == (0, 1)  # both, one or none of two photographs
    assert by_image[0] > 0.2
    assert by_image[1] < 0.8


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_an_interval_holds_the_mean_and_repeats(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    low, high = intervals.interval(values, [str(i) for i in range(count)])
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert low <= values.mean() + 3 * values.std()
    assert (low, high) == intervals.interval(values, [str(i) for i in range(count)])


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=400)
    low, high = intervals.interval(values, [str(i) for i in range(400)])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_paired_by_hand():
    a, b = np.array([3.0, 5.0, 2.0, 2.0, np.nan]), np.array([1.0, 4.0, 2.0, 4.0, 1.0])
    found = intervals.paired(a, b, list("abcde"), lower_is_better=False)
    assert (found["difference"], found["win_rate"], found["ties"], found["n"]) == (0.25, 0.625, 1, 4)
    turned = intervals.paired(a, b, list("abcde"), lower_is_better=True)
    assert (turned["difference"], turned["win_rate"]) == (0.25, 0.375)
    assert found["low"] < 0.25 < found["high"]
    same = intervals.paired(a, a, list("abcde"), lower_is_better=False)
    assert (same["difference"], same["win_rate"], same["ties"]) == (0, 0.5, 4)


def test_a_win_rate_over_photographs_is_as_sure_as_their_number():
    a, b = np.ones(20), np.zeros(20)
    each = intervals.paired(a, b, [str(i) for i in range(20)], lower_is_better=False)
    assert each["win_low"] == pytest.approx(1 - 1.96**2 / (20 + 1.96**2), abs=1e-3)  # Wilson at 20 of 20
    both = intervals.paired(np.array([1.0, 1, 0, 0]), np.array([0.0, 0, 1, 1]), list("aabb"), lower_is_better=False)
    assert (both["win_low"], both["win_high"]) == (0, 1)


def test_without_groups_each_value_is_its_own():
    values = np.random.default_rng(0).normal(1.0, 1.0, 400)
    low, high = intervals.interval(values)
    few = intervals.interval(values[:25])
    assert low < values.mean() < high
    assert few[1] - few[0] > 3 * (high - low)
    assert (low, high) == intervals.interval(values, [f"{number:03}" for number in range(400)])


def test_wilsons_interval_of_8_in_10():
    figures = intervals.accuracy(np.array([True] * 8 + [False] * 2))
    assert figures["accuracy"] == 0.8
    assert (figures["low"], figures["high"]) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert math.isnan(intervals.accuracy(np.zeros(0, bool))["accuracy"])


def test_a_ratio_by_hand():
    over, under = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 4.0, 6.0, 12.0])
    found = intervals.ratio(over, under, list("abcd"))
    assert (found["value"], found["low"], found["high"]) == (0.5, 0.5, 0.5)  # whatever is drawn
    of_two = intervals.ratio(np.array([1.0, 0.0]), np.array([1.0, 1.0]), ["a", "b"])
    assert (of_two["value"], of_two["low"], of_two["high"]) == (0.5, 0, 1)
    assert all(math.isnan(intervals.ratio(over, under, ["a"] * 4)[end]) for end in ("low", "high"))


def test_a_ratio_to_what_may_be_nothing_has_no_interval():
    found = intervals.ratio(np.ones(4), np.array([3.0, -2.0, 2.0, -1.0]))
    assert found["value"] == 2
    assert math.isnan(found["low"])
    assert math.isnan(intervals.ratio(np.ones(2), np.zeros(2))["value"])
    with pytest.raises(ValueError, match="paired"):
        intervals.ratio(np.ones(2), np.ones(3))


def test_any_statistic_is_resampled_by_photograph():
    values = np.array([0.0] * 10 + [1.0] * 10)
    photographs = ["a"] * 10 + ["b"] * 10
    assert intervals.resampled(lambda rows: values[rows].mean(), photographs) == (0, 1)
    assert all(math.isnan(end) for end in intervals.resampled(lambda rows: 1.0, ["a"] * 3))
    assert all(math.isnan(end) for end in intervals.resampled(lambda rows: math.nan, ["a", "b"]))
    many = np.random.default_rng(1).normal(size=60)
    names = [str(i) for i in range(60)]
    low, high = intervals.resampled(lambda rows: float(many[rows].mean()), names)
    assert (low, high) == pytest.approx(intervals.interval(many, names), abs=0.05)


def test_shares_of_rows_of_few_photographs_are_less_sure_than_wilson_says():
    right = np.array([True] * 30 + [False] * 10)
    by_row = intervals.accuracy(right)
    by_photograph = intervals.accuracy(right, [f"{i // 10}" for i in range(40)])
    assert by_photograph["accuracy"] == by_row["accuracy"] == 0.75
    assert by_photograph["low"] < by_row["low"]
    unanimous = intervals.accuracy(np.ones(40, bool), [f"{i // 10}" for i in range(40)])
    assert unanimous["low"] == pytest.approx(4 / (4 + 1.96**2), abs=1e-3)  # Wilson at 4 of 4
    assert intervals.accuracy(np.array([True, False]), ["a", "b"]) == intervals.accuracy(np.array([True, False]))
