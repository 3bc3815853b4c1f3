import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fgr.generate import makers, plan, run
from fgr.generate.overlap import ahead, chunks
from fgr.generate.shards import _upscaled
from fgr.generate.upscalers import Job, NonFiniteOutput


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as opened:
        yield opened


def test_results_come_in_order_and_not_too_far_ahead(pool):
    taken = []

    def items():
        for i in range(10):
            taken.append(i)
            yield i

    made = ahead(pool, lambda i: i * i, items(), depth=3)
    assert next(made) == 0
    assert taken == [0, 1, 2, 3]
    assert list(made) == [i * i for i in range(1, 10)]
    assert list(ahead(None, lambda i: i * i, range(4), depth=3)) == [0, 1, 4, 9]


def test_work_goes_on_while_the_next_item_is_made(pool):
    second = threading.Event()

    def items():
        yield 0
        second.set()  # only reached while item 0 is still at work
        yield 1

    assert list(ahead(pool, lambda i: i or second.wait(30), items(), depth=2)) == [True, 1]


def test_the_first_error_is_raised_and_what_has_not_begun_is_dropped(pool):
    begun, go = [], threading.Event()

    def work(i):
        begun.append(i)
        if i == 0:
            raise ValueError("broken")
        go.wait(30)

    with pytest.raises(ValueError, match="broken"):
        list(ahead(pool, work, range(20), depth=12))
    go.set()
    pool.shutdown()
    assert len(begun) < 13


def test_chunks():
    assert list(chunks(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []


def test_threads_and_batches_make_the_same_bytes(tiny, tiny_recipe, tmp_path):
    factory = makers.MakerFactory(tiny_recipe, tmp_path)
    source, splits = tiny_recipe.source.model_dump(), tiny_recipe.splits.model_dump()
    photographs = plan.build(tmp_path / ".fgr/plan", workers=1, splits=splits, **source)
    (tmp_path / ".fgr/models.json").write_text(json.dumps(makers.describe(*factory.models("cpu"))))
    factory.calibrate("cpu")
    maker = factory("cpu")
    maker.threads, maker.batch = 3, 4
    counted = []
    for shard in run.all_shards(tiny_recipe, photographs):
        maker.make(shard, lambda count, _: counted.append(count))
    made = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in made] == [path.name for path in sorted((tiny / "samples").iterdir())]
    assert all(path.read_bytes() == (tiny / "samples" / path.name).read_bytes() for path in made)
    assert sum(counted) == tiny_recipe.samples


def test_an_image_that_is_not_finite_does_not_take_its_batch_with_it():
    class Choosy:
        def upscale(self, jobs):
            if any(job.photo == "bad" for job in jobs):
                raise NonFiniteOutput("nan")
            return [job.image for job in jobs]

    jobs = [Job(np.full((2, 2, 3), i, np.uint8), photo, (2, 2), (0, 0, 2)) for i, photo in enumerate(["a", "bad", "c"])]
    found = _upscaled(Choosy(), jobs)
    assert found[1] is None
    assert [int(found[0][0, 0, 0]), int(found[2][0, 0, 0])] == [0, 2]
