import runpy
import textwrap

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


@pytest.fixture
def lossy(tmp_path, monkeypatch):
    """Two workers, the first of which loses CUDA in its second shard; and what makes a shard: it writes its device to a file."""
    (tmp_path / "lossy.py").write_text(
        textwrap.dedent("""
            import pathlib, time

            OUT = pathlib.Path(__file__).parent

            class Maker:
                def __init__(self, device):
                    self.device, self.workspace = device, self

                def is_done(self, shard):
                    return (OUT / shard.name).is_file()

                def make(self, shards, tick):
                    for number, shard in enumerate(shards):
                        tick(1, {})
                        if self.device in ("cuda:0", "broken") and number:
                            (OUT / "lost").touch()
                            raise RuntimeError("CUDA error: unspecified launch failure")
                        (OUT / shard.name).write_text(self.device)
                        while self.device == "cuda:1" and not list(OUT.glob("lost")):
                            time.sleep(0.01)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lossy

    return lossy.Maker


def test_the_shards_of_a_lost_device_are_made_again_by_another(lossy, tmp_path, capfd):
    local, counts = Local("cpu", 2), []
    local.devices = ["cuda:0", "cuda:1"]
    shards = [Shard("train", name, ("a candidate",)) for name in "abcdef"]
    local.make(shards, lossy, lambda count, _: counts.append(count))
    made = [(tmp_path / shard.name).read_text() for shard in shards]
    assert "cuda:1" in made
    assert sum(counts) == len(shards)
    assert "CUDA failed on cuda:0; other devices make again" in capfd.readouterr().err
    assert local.devices == ["cuda:1"]


def test_no_device_that_is_left_is_a_sentence(lossy):
    local = Local("cpu", 2)
    local.devices = ["broken", "broken"]
    with pytest.raises(UserError, match=r"(?s)CUDA failed on every device \(broken\).*run the same command again"):
        local.make([Shard("train", name, ()) for name in "abcdef"], lossy, lambda *_: None)
