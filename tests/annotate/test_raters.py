"""Who is left out of the consensus, and why."""

import numpy as np
import pytest

from fgr.annotate.raters import RaterStatistics, exclusion_reasons
from fgr.recipe.annotate import Consensus

MEAN = Consensus(scores="mean")  # the screening counts


def statistics(**changed):
    same = {
        "work": 20, "seconds": 30.0, "correlation": 0.8, "dice": 0.6, "gold_right": 4, "gold_total": 4, "spread": 15.0,
        "screened": False,
    }  # fmt: skip
    columns = [{**same}, {**same}, {**same, **changed}]
    return RaterStatistics(**{name: np.array([column[name] for column in columns]) for name in same})


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
