import json
import multiprocessing
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from fgr.errors import UserError
from fgr.generate import factory as factories
from fgr.generate import plan
from fgr.generate.calibration import calibrate
from fgr.generate.maker import Models, upscaled
from fgr.generate.shards import plan_shards
from fgr.metrics.features import Gradient
from fgr.sr import Job, NonFiniteOutput


@pytest.fixture
def prepared(tiny_recipe, tmp_path):
    """A maker of `tiny` in another folder, and its shards."""
    factory = factories.MakerFactory(tiny_recipe, tmp_path)
    references = plan.build(factory.workspace.plan, tiny_recipe.source, tiny_recipe.splits, workers=1)
    factory.workspace.models.write_text(json.dumps(factories.describe(factory.models("cpu"))))
    calibrate(factory, "cpu")
    return factory("cpu"), plan_shards(references.source_ids(), tiny_recipe)


@pytest.mark.parametrize("processes", [False, True])
def test_threads_processes_and_batches_make_the_same_bytes(tiny, tiny_recipe, prepared, tmp_path, processes):
    maker, shards = prepared
    maker.threads, maker.batch, maker.processes = 2, 4, processes
    counted = []
    maker.make(shards, lambda count, _: counted.append(count))
    made = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in made] == [path.name for path in sorted((tiny / "samples").iterdir())]
    assert all(path.read_bytes() == (tiny / "samples" / path.name).read_bytes() for path in made)
    assert sum(counted) == tiny_recipe.samples


class Deadly(Gradient):
    """Features whose comparison ends its process, as a system without memory does."""

    def compare(self, features):
        os._exit(9)


def test_a_killed_process_is_a_sentence_and_none_stays_behind(prepared):
    maker, shards = prepared
    maker.threads, maker.processes = 1, True
    maker.models = Models(maker.models.upscalers, Deadly(), maker.models.segments)
    with pytest.raises(UserError, match="A worker process was killed"):
        maker.make(shards, lambda *_: None)
    assert not multiprocessing.active_children()


def test_the_next_shard_is_begun_while_the_last_rows_of_one_are_made(prepared):
    """Nothing but the rows of the first shard waits for the second shard's images: without threads it would wait for ever."""
    maker, shards = prepared
    maker.threads, maker.processes, begun = 2, False, threading.Event()
    upscaler, second = maker.models.upscalers["bicubic"], shards[1].candidates[0].source_id

    entry, features = maker.plan.references[second], maker.models.features
    box = (entry.top, entry.left, 128)

    class Watched:
        digest, external, settings = upscaler.digest, False, upscaler.settings

        def upscale(self, jobs):
            if any(job.box == box for job in jobs):
                begun.set()
            return upscaler.upscale(jobs)

    class Waiting:
        name, digest, extract = features.name, features.digest, features.extract

        def compare(self, seen):
            assert begun.wait(30)
            return features.compare(seen)

    maker.models = Models(dict.fromkeys(maker.models.upscalers, Watched()), Waiting(), maker.models.segments)
    one = [replace(shard, candidates=shard.candidates[:1]) for shard in shards[:2]]
    maker.make(one, lambda *_: None)


def test_an_image_that_is_not_finite_does_not_take_its_batch_with_it():
    class Choosy:
        def upscale(self, jobs):
            if any(job.photo == "bad" for job in jobs):
                raise NonFiniteOutput("nan")
            return [job.image for job in jobs]

        def settings(self, index=0):
            return {"number": index}

    jobs = [Job(np.full((2, 2, 3), i, np.uint8), photo, (2, 2), (0, 0, 2)) for i, photo in enumerate(["a", "bad", "c"])]
    found = upscaled(Choosy(), "m", jobs)
    assert found[1] == ("not_finite:m", {})
    assert [int(image[0, 0, 0]) for image, _ in (found[0], found[2])] == [0, 2]
    assert found[0][1] == {"number": 0}
