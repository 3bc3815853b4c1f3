"""Who is left out of the consensus, and why."""

import numpy as np
import pytest

from fgr.annotate.raters import RaterStatistics, Ratings, exclusion_reasons
from fgr.annotate.raters import statistics as rater_statistics
from fgr.recipe.annotate import Consensus

MEAN = Consensus(scores="mean")  # the screening counts


def statistics(few=False, **changed):
    same = {
        "work": 20, "seconds": 30.0, "correlation": 0.8, "dice": 0.6, "gold_right": 4, "gold_total": 4, "spread": 15.0,
        "screened": False,
    }  # fmt: skip
    columns = [{**same}, {**same}, {**same, **changed}]
    return RaterStatistics(**{name: np.array([column[name] for column in columns]) for name in same}, few=few)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"gold_right": 1}, "1 of 4 gold"),
        ({"correlation": 0.1}, "correlation of 0.10"),
        ({"correlation": -0.9}, "correlation of -0.90"),
        ({"spread": 0.0, "correlation": 0.0}, "the same score"),
        ({"dice": 0.1}, "Dice 0.10, the usual is 0.60"),
        ({"seconds": 1.2}, "1.2 s a sample"),
        ({"screened": True}, "BT.500"),
    ],
)
def test_reasons_are_named(changed, says):
    reasons = exclusion_reasons(statistics(**changed), MEAN)
    assert reasons[:2] == [[], []]
    assert len(reasons[2]) == 1
    assert says in reasons[2][0]
    assert exclusion_reasons(statistics(**{"work": 4, "gold_total": 2, "gold_right": 0, **changed}), MEAN)[2] == [] or (
        "gold" in says
    )
    assert exclusion_reasons(statistics(screened=True), Consensus())[2] == []


def test_with_few_raters_a_correlation_must_be_better_than_chance():
    """Of 20 samples a random clicker reaches 0.38 once in twenty times."""
    assert exclusion_reasons(statistics(correlation=0.3), Consensus())[2] == []
    assert "correlation of 0.30" in exclusion_reasons(statistics(few=True, correlation=0.3), Consensus())[2][0]
    assert exclusion_reasons(statistics(few=True, correlation=0.45), Consensus())[2] == []
    assert exclusion_reasons(statistics(few=True, correlation=0.3, work=12), Consensus())[2] == []


def test_a_random_clicker_among_four_is_left_out_and_the_honest_are_not():
    rng = np.random.default_rng(5)
    truth = rng.uniform(10, 90, 60)
    scores = np.column_stack([*(truth + rng.normal(0, 10, 60) for _ in range(3)), rng.uniform(0, 100, 60)])
    nothing = np.zeros(4)
    ratings = Ratings([], [], scores, np.full((60, 4), 30.0), nothing, nothing, nothing, nothing, nothing)
    reasons = exclusion_reasons(rater_statistics(ratings, 5), MEAN)
    assert reasons[:3] == [[], [], []]
    assert "correlation" in reasons[3][0]
