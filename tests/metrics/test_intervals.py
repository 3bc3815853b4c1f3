import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgr.evaluate import opinions
from fgr.evaluate.benchmark import Benchmark
from fgr.metrics import intervals as statistics


def test_a_mean_leaves_out_what_is_not_finite_and_says_so():
    found = statistics.summary(np.array([1.0, 3.0, np.inf, np.nan]), ["a", "b", "c", "d"])
    assert (found["mean"], found["n"], found["left_out"]) == (2, 2, 2)


def test_images_of_one_photograph_are_no_evidence_of_their_own():
    assert all(math.isnan(end) for end in statistics.interval(np.arange(4.0), ["a"] * 4))
    spread = np.array([0.0] * 10 + [1.0] * 10)
    by_image = statistics.interval(spread, [str(i) for i in range(20)])
    by_photo = statistics.interval(spread, ["a"] * 10 + ["b"] * 10)
    assert by_photo == (0, 1)  # both, one or none of two photographs
    assert by_image[0] > 0.2
    assert by_image[1] < 0.8


@given(st.integers(2, 30), st.integers(0, 2**31))
def test_an_interval_holds_the_mean_and_repeats(count, seed):
    values = np.random.default_rng(seed).normal(size=count)
    low, high = statistics.interval(values, [str(i) for i in range(count)])
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9
    assert low <= values.mean() + 3 * values.std()
    assert (low, high) == statistics.interval(values, [str(i) for i in range(count)])


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    values = np.random.default_rng(0).normal(size=400)
    low, high = statistics.interval(values, [str(i) for i in range(400)])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_paired_by_hand():
    a, b = np.array([3.0, 5.0, 2.0, 2.0, np.nan]), np.array([1.0, 4.0, 2.0, 4.0, 1.0])
    found = statistics.paired(a, b, list("abcde"), lower_is_better=False)
    assert (found["difference"], found["win_rate"], found["ties"], found["n"]) == (0.25, 0.625, 1, 4)
    turned = statistics.paired(a, b, list("abcde"), lower_is_better=True)
    assert (turned["difference"], turned["win_rate"]) == (0.25, 0.375)
    assert found["low"] < 0.25 < found["high"]
    same = statistics.paired(a, a, list("abcde"), lower_is_better=False)
    assert (same["difference"], same["win_rate"], same["ties"]) == (0, 0.5, 4)


def test_a_win_rate_over_photographs_is_as_sure_as_their_number():
    a, b = np.ones(20), np.zeros(20)
    each = statistics.paired(a, b, [str(i) for i in range(20)], lower_is_better=False)
    assert each["win_low"] == pytest.approx(1 - 1.96**2 / (20 + 1.96**2), abs=1e-3)  # Wilson at 20 of 20
    both = statistics.paired(np.array([1.0, 1, 0, 0]), np.array([0.0, 0, 1, 1]), list("aabb"), lower_is_better=False)
    assert (both["win_low"], both["win_high"]) == (0, 1)


def of_scores(mos, groups):
    return Benchmark("b", [None] * len(mos), mos=mos, groups=groups)


def test_opinions_by_hand():
    """Within scene a all three pairs are in order, in b one of three; ranks are those of 1 2 3 6 5 4."""
    benchmark = of_scores([1, 2, 3, 4, 5, 6], list("aaabbb"))
    found = opinions.figures({"x": np.array([10.0, 20, 30, 60, 50, 40])}, benchmark)["x"]
    assert found["srcc"] == pytest.approx(1 - 6 * (4 + 4) / (6 * 35))
    assert found["srcc_within"] == pytest.approx((1 - 1) / 2)
    assert (found["accuracy"], found["pairs"]) == (0.5, 6)
    assert found["krcc"] == pytest.approx((12 - 3) / 15)


def test_a_score_that_falls_with_quality_is_negated():
    benchmark = of_scores([1, 2, 3, 4], list("abcd"))
    scores = np.array([0.9, 0.5, 0.4, 0.1])
    assert opinions.figures({"x": scores}, benchmark, lower=["x"])["x"]["srcc"] == 1
    assert opinions.figures({"x": scores}, benchmark)["x"]["srcc"] == -1
    assert "accuracy" not in opinions.figures({"x": scores}, benchmark)["x"]  # no scene has two images


def test_a_logistic_fit_straightens_a_saturating_score():
    scores = np.linspace(-4, 4, 40)
    mos = 1 / (1 + np.exp(-2 * scores))
    found = opinions.figures({"x": scores}, of_scores(mos.tolist(), [str(i) for i in range(40)]))["x"]
    assert found["plcc_logistic"] == pytest.approx(1, abs=1e-4)
    assert found["plcc"] < 0.98
    assert found["srcc_low"] == pytest.approx(1)


def test_choices_by_hand():
    """Right, wrong, equal scores as half; the tie of people is left out."""
    pairs = [(0, 1, 1.0, "a"), (0, 2, 0.2, "b"), (3, 0, 0.9, "c"), (0, 1, 0.5, "d")]
    benchmark = Benchmark("b", [None] * 4, pairs=pairs)
    found = opinions.figures({"x": np.array([0.5, 0.1, 0.2, 0.5])}, benchmark)["x"]
    assert (found["accuracy"], found["pairs"], found["ties"]) == (0.5, 3, 1)
