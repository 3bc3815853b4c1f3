from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgr.dataset.spread import spread


@given(st.integers(0, 500), st.integers(0, 500))
def test_rows_are_distinct_ascending_and_one_of_each_part(count, most):
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert all(0 <= index < count for index in chosen)
    if 0 < most < count:
        assert [index * most // count for index in chosen] == pytest.approx(range(most), abs=1)
    assert chosen == spread(count, most)


@pytest.mark.parametrize(("count", "most", "models"), [(716, 240, 3), (1000, 500, 2), (1200, 100, 4)])
def test_rows_that_take_turns_are_all_met(count, most, models):
    met = Counter(index % models for index in spread(count, most))
    assert min(met.values()) > 0.6 * most / models
