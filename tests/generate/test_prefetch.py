import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fgr.generate.prefetch import Once, batches, prefetch


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as opened:
        yield opened


def test_results_come_in_order_and_not_too_far_prefetch(pool):
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    made = prefetch(pool, lambda i: i * i, items(), depth=3)
    assert next(made) == 0
    assert taken == [0, 1, 2, 3]
    assert list(made) == [i * i for i in range(1, 10)]
    assert list(prefetch(None, lambda i: i * i, range(4), depth=3)) == [0, 1, 4, 9]


def test_work_goes_on_while_the_next_item_is_made(pool):
    second = threading.Event()

    def items():
        yield 0
        second.set()  # only reached while item 0 is still at work
        yield 1

    assert list(prefetch(pool, lambda i: i or second.wait(30), items(), depth=2)) == [True, 1]


def test_the_first_error_is_raised_and_what_has_not_begun_is_dropped(pool):
    begun, go = [], threading.Event()

    def work(i):
        begun.append(i)
        if i == 0:
            raise ValueError("broken")
        go.wait(30)

    with pytest.raises(ValueError, match="broken"):
        list(prefetch(pool, work, range(20), depth=12))
    go.set()
    pool.shutdown()
    assert len(begun) < 13


def test_batches_are_of_one_kind():
    assert list(batches(range(5), 2, lambda _: 0)) == [[0, 1], [2, 3], [4]]
    assert list(batches([1, 3, 5, 2, 4, 7], 2, lambda one: one % 2)) == [[1, 3], [5], [2, 4], [7]]
    assert list(batches([], 2, lambda _: 0)) == []


def test_a_value_is_made_once_by_many_threads(pool):
    made = []
    once = Once(lambda: made.append(0) or len(made))
    assert list(pool.map(lambda _: once(), range(8))) == [1] * 8
