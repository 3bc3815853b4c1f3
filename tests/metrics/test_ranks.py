import math

import numpy as np
import pytest

from fgr.metrics import ranks


def test_opinions_by_hand():
    """Within scene a all three pairs are in order, in b one of three; ranks are those of 1 2 3 6 5 4."""
    found = ranks.opinion_figures(np.array([10.0, 20, 30, 60, 50, 40]), np.array([1, 2, 3, 4, 5, 6]), list("aaabbb"))
    assert found["srcc"] == pytest.approx(1 - 6 * (4 + 4) / (6 * 35))
    assert found["srcc_within"] == pytest.approx((1 - 1) / 2)
    assert (found["accuracy"], found["pairs"]) == (0.5, 6)
    assert found["krcc"] == pytest.approx((12 - 3) / 15)


def test_scenes_of_one_image_have_no_pairs():
    found = ranks.opinion_figures(np.array([0.9, 0.5, 0.4, 0.1]), np.array([1, 2, 3, 4]), list("abcd"))
    assert found["srcc"] == -1
    assert "accuracy" not in found


def test_the_best_of_several_by_hand():
    """Of a's images 5, 1, 3 the first is chosen: 2 above their mean; of b's the scores say nothing: the mean of 0 and 4."""
    found = ranks.best_of(np.array([3.0, 2, 1, 7, 7, 9]), np.array([5.0, 1, 3, 0, 4, 1]), list("aaabbc"))
    assert (found["groups"], found["first"], found["gain"], found["possible"], found["share"]) == (2, 0.5, 1, 2, 0.5)
    assert found["by_count"] == {2: pytest.approx(((5 + 5 + 1) / 3 - 3) / 2), 3: pytest.approx(2)}
    assert ranks.best_of(np.ones(2), np.ones(2), ["a", "b"]) == {}


def test_a_logistic_fit_straightens_a_saturating_score():
    scores = np.linspace(-4, 4, 40)
    mos = 1 / (1 + np.exp(-2 * scores))
    found = ranks.opinion_figures(scores, mos, [str(i) for i in range(40)])
    assert found["plcc_logistic"] == pytest.approx(1, abs=1e-4)
    assert found["plcc"] < 0.98
    assert found["srcc_low"] == pytest.approx(1)


def test_choices_by_hand():
    """Right, wrong, equal scores as half; the tie of people is left out."""
    pairs = [(0, 1, 1.0, "a"), (0, 2, 0.2, "b"), (3, 0, 0.9, "c"), (0, 1, 0.5, "d")]
    found = ranks.choice_figures(np.array([0.5, 0.1, 0.2, 0.5]), pairs)
    assert (found["accuracy"], found["pairs"], found["ties"]) == (0.5, 3, 1)


def test_scores_by_hand():
    figures = ranks.score_figures(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert figures["srcc"] == pytest.approx(0.8)
    assert figures["krcc"] == pytest.approx(4 / 6)
    assert figures["plcc"] == pytest.approx(0.8)
    assert math.isnan(ranks.score_figures(np.ones(5), np.arange(5.0))["srcc"])


def test_a_logistic_relation_is_seen_as_perfect():
    score = np.linspace(-3, 3, 40)
    truth = 1 / (1 + np.exp(-4 * score))
    figures = ranks.score_figures(score, truth)
    assert figures["plcc"] < 0.96
    assert figures["plcc_logistic"] > 0.999


def test_triplets_in_order():
    scores = {"sr": np.array([0, 0, 1]), "composite": np.array([1, 1, 1]), "reference": np.array([2, 1, 2])}
    assert ranks.triplets_in_order(scores).tolist() == [True, False, False]
