import runpy

import pytest

from fgr.errors import UserError
from fgr.generate.engines import ENGINES
from fgr.generate.engines.local import Local
from fgr.generate.shards import Shard

SHARDS = [Shard("train", name, ()) for name in "abcd"]


def workers(tmp_path, script):
    """Two worker processes, each of which runs `script` in place of opening the models of its device."""
    path = tmp_path / "opening.py"
    path.write_text(script)
    local = Local("cpu", 2)
    local.devices = [str(path)] * 2
    return local


def test_a_worker_that_is_killed_is_a_sentence(tmp_path):
    with workers(tmp_path, "import os; os._exit(1)") as local, pytest.raises(UserError, match=r"(?s)was killed.*Run the same"):
        local.make(SHARDS, runpy.run_path, lambda *_: None)


def test_an_error_of_a_worker_is_raised_here(tmp_path):
    with workers(tmp_path, "raise ValueError('no weights')") as local, pytest.raises(ValueError, match="no weights"):
        local.make(SHARDS, runpy.run_path, lambda *_: None)


def test_one_worker_is_this_process_and_takes_all_shards_at_once():
    made = []

    class Maker:
        def make(self, shards, tick):
            made.append([shard.name for shard in shards])

    with ENGINES["local"]("cpu", 1) as engine:
        engine.make(SHARDS, lambda device: Maker(), lambda *_: None)
        engine.make([], lambda device: pytest.fail("nothing is opened for no shards"), lambda *_: None)
        engine.call(made.append)
    assert made == [list("abcd"), "cpu"]
