import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fgr.generate import makers, plan, run
from fgr.generate.overlap import Once, ahead, chunks
from fgr.generate.shards import _upscaled
from fgr.sr import Job, NonFiniteOutput


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


def test_chunks_are_of_one_kind():
    assert list(chunks(range(5), 2, lambda _: 0)) == [[0, 1], [2, 3], [4]]
    assert list(chunks([1, 3, 5, 2, 4, 7], 2, lambda one: one % 2)) == [[1, 3], [5], [2, 4], [7]]
    assert list(chunks([], 2, lambda _: 0)) == []


def test_a_value_is_made_once_by_many_threads(pool):
    made = []
    once = Once(lambda: made.append(0) or len(made))
    assert list(pool.map(lambda _: once(), range(8))) == [1] * 8


@pytest.fixture
def prepared(tiny_recipe, tmp_path):
    """A maker of `tiny` in another folder, and its shards."""
    factory = makers.MakerFactory(tiny_recipe, tmp_path)
    source, splits = tiny_recipe.source.model_dump(), tiny_recipe.splits.model_dump()
    photographs = plan.build(tmp_path / ".fgr/plan", workers=1, splits=splits, **source)
    (tmp_path / ".fgr/models.json").write_text(json.dumps(makers.describe(*factory.models("cpu"))))
    factory.calibrate("cpu")
    return factory("cpu"), run.all_shards(tiny_recipe, photographs)


def test_threads_and_batches_make_the_same_bytes(tiny, tiny_recipe, prepared, tmp_path):
    maker, shards = prepared
    maker.threads, maker.batch = 3, 4
    counted = []
    maker.make(shards, lambda count, _: counted.append(count))
    made = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in made] == [path.name for path in sorted((tiny / "samples").iterdir())]
    assert all(path.read_bytes() == (tiny / "samples" / path.name).read_bytes() for path in made)
    assert sum(counted) == tiny_recipe.samples


def test_the_next_shard_is_begun_while_the_last_rows_of_one_are_made(prepared):
    """Nothing but the rows of the first shard waits for the second shard's images: without threads it would wait for ever."""
    maker, shards = prepared
    maker.threads, begun = 2, threading.Event()
    upscaler, second = maker.upscalers["bicubic"], shards[1].candidates[0].source_id

    class Watched:
        digest, external, settings = upscaler.digest, False, upscaler.settings

        def upscale(self, jobs):
            if any(job.box == box for job in jobs):
                begun.set()
            return upscaler.upscale(jobs)

    class Waiting:
        name, digest, look = maker.features.name, maker.features.digest, maker.features.look

        def compare(self, seen):
            assert begun.wait(30)
            return maker_features.compare(seen)

    entry, maker_features = maker.photographs.references[second], maker.features
    box = (entry.top, entry.left, 128)
    maker.upscalers, maker.features = dict.fromkeys(maker.upscalers, Watched()), Waiting()
    one = [replace(shard, candidates=shard.candidates[:1]) for shard in shards[:2]]
    maker.make(one, lambda *_: None)


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
