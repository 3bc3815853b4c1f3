import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fgr.errors import UserError
from fgr.generate.engines import ray
from fgr.generate.shards import Shard

LO_UP = 'ip link set lo up && exec "$@"'
ALONE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--",
    "sh",
    "-c",
    LO_UP,
    "_",
]
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture
def surroundings():
    """An environment for Ray: a home with a token, and a folder with a name short enough for its sockets."""
    pytest.importorskip("ray", reason="ray is not installed (the extra fgr[ray])")
    home = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    here = {"HOME": home, "RAY_TMPDIR": home, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (Path(home) / ".ray").mkdir()
    (Path(home) / ".ray" / "auth_token").write_text("0" * 64)
    yield inherited | here
    shutil.rmtree(home, ignore_errors=True)


def a_network_of_its_own():
    """The command that runs a program where there is no interface but loopback, and the variables for it."""
    try:
        if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0:
            return ALONE, {}
    except OSError:
        pass
    return [], {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's own way of staying on loopback


def contents(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_two_nodes_make_the_same_bytes_as_one_machine_also_when_a_worker_and_a_node_are_lost(
    tiny, tiny_overrides, surroundings, tmp_path
):
    prefix, variables = a_network_of_its_own()
    (tmp_path / "flags").mkdir()
    script = Path(__file__).with_name("two_nodes.py")
    command = [*prefix, sys.executable, str(script), str(tmp_path / "out"), str(tmp_path / "flags"), *tiny_overrides]
    done = subprocess.run(command, env=surroundings | variables, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert contents(tmp_path / "out" / "whole") == contents(tiny)
    assert contents(tmp_path / "out" / "killed") == contents(tiny)
    assert "killed the second node" in done.stdout
    in_hand = {(tmp_path / "flags" / node).read_text() for node in ("first", "second")}
    assert len(in_hand) == 2
    assert all(done.stderr.count(f"was lost while it made {name}; that is done again") == 1 for name in in_hand)
    listening = done.stdout.partition("listeners ")[2].split()
    assert listening
    assert prefix or set(listening) <= LOOPBACK


class Room:
    """A cluster whose workers do as they are told: `answer` gives what a worker says of a shard, or None if it is lost."""

    def __init__(self, slots, answer):
        self.slots, self._answer = slots, answer
        self.hired, self.ended, self.asked = 0, 0, []

    def start_worker(self):
        self.hired += 1
        worker = self.hired
        asked = SimpleNamespace(remote=lambda what: (worker, what))
        return SimpleNamespace(open=asked, make=asked)

    def finished(self, running):
        return running[:1]

    def result(self, reference):
        worker, what = reference
        name = getattr(what, "name", "")
        self.asked.append((worker, name))
        return self._answer(name)

    def kill(self, worker):
        self.ended += 1


def work(room, names, tick=lambda *_: None):
    scheduler = ray.Scheduler(room, None, [Shard("train", name, ()) for name in names])
    try:
        scheduler.run(tick)
    finally:
        scheduler.stop()


def test_work_is_handed_out_shard_by_shard_and_every_worker_is_ended():
    ticks = []
    room = Room(lambda: 2, lambda name: (4, {"severity": 1}))
    work(room, "abcde", lambda *counts: ticks.append(counts))
    made = [(worker, name) for worker, name in room.asked if name]
    assert sorted(name for _, name in made) == list("abcde")
    assert {worker for worker, _ in made} == {1, 2}
    assert ticks == [(4, {"severity": 1})] * 5
    assert room.hired == room.ended == 2


def test_a_shard_that_loses_every_worker_stops_the_run_and_is_named(capsys):
    room = Room(lambda: 1, lambda name: None if name == "b" else (1, {}))
    with pytest.raises(UserError, match="For the 4th time a worker of the Ray cluster was lost while it made b, perhaps"):
        work(room, "abc")
    assert [name for _, name in room.asked if name] == list("abbbb")
    assert capsys.readouterr().err.count("lost while it made b; that is done again") == 3


def test_workers_that_never_open_stop_the_run():
    with pytest.raises(UserError, match="lost before it had begun a shard"):
        work(Room(lambda: 3, lambda name: None), "ab")


def test_slots_that_a_machine_brings_when_it_joins_are_used():
    room = Room(lambda: 3 if room.asked else 1, lambda name: (1, {}))
    work(room, "abcdefgh")
    assert room.hired == 3


def test_a_device_that_the_cluster_lacks_is_refused():
    with pytest.raises(UserError, match=r"(?s)does not have the device 'cuda'.*auto, cpu"):
        ray.worker_device("cuda", {"CPU": 2.0})
    assert ray.worker_device("auto", {"CPU": 2.0}) == "cpu"
    assert {ray.worker_device(asked, {"CPU": 2.0, "GPU": 1.0}) for asked in ("auto", "cuda")} == {"cuda"}


def test_an_address_without_a_cluster_is_a_sentence(surroundings):
    command = [sys.executable, "-m", "fgr", "generate", "demo", "--models", "bicubic", "--out", surroundings["HOME"] + "/out"]
    command += ["--engine", "ray"]
    done = subprocess.run(command, env=surroundings | {"RAY_ADDRESS": "127.0.0.1:1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No Ray cluster could be reached at RAY_ADDRESS=127.0.0.1:1 (" in done.stderr
    assert "Traceback" not in done.stderr
