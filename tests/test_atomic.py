import os
import subprocess
import sys
import time

import pytest

from fgr import atomic


def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with pytest.raises(TypeError), atomic.replacing(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_kill_between_writing_and_renaming_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    script = f"import os, fgr.atomic as a\na.os.fsync = lambda fd: os.kill(os.getpid(), 9)\na.write_text({str(path)!r}, 'new')"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    atomic.remove_stale(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_stale_files_of_running_processes_and_of_other_machines_stay(tmp_path):
    (tmp_path / "seen").mkdir()
    with atomic.replacing(tmp_path / "seen" / "x"):
        (name,) = os.listdir(tmp_path / "seen")
    here = name.removeprefix(".x.").removesuffix(f".{os.getpid()}.tmp")
    (tmp_path / "seen" / "x").unlink()
    (tmp_path / "seen").rmdir()
    mine, gone = tmp_path / f".x.{here}.{os.getpid()}.tmp", tmp_path / f".y.{here}.999999999.tmp"
    elsewhere, forgotten = tmp_path / ".z.another-node.999999999.tmp", tmp_path / ".w.another-node.999999999.tmp"
    for path in (mine, gone, elsewhere, forgotten):
        path.touch()
    hours_ago = time.time() - 2 * 3600
    os.utime(forgotten, (hours_ago, hours_ago))
    atomic.remove_stale(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])


def test_write_once_keeps_the_first_content(tmp_path):
    assert atomic.write_once(tmp_path / "a", b"first") == b"first"
    assert atomic.write_once(tmp_path / "a", b"second") == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_process_ids_of_another_container_on_a_host_of_the_same_name_say_nothing(tmp_path, monkeypatch):
    """A file in use by a process of another container, whose id is nobody's here, stays."""
    with monkeypatch.context() as there:
        there.setattr(os, "readlink", lambda path: "pid:[4026531999]")
        there.setattr(os, "getpid", lambda: 999999999)
        atomic.machine.cache_clear()
        theirs = atomic.replacing(tmp_path / "x")
        theirs.__enter__()
    atomic.machine.cache_clear()
    (name,) = os.listdir(tmp_path)
    atomic.remove_stale(tmp_path)
    assert os.listdir(tmp_path) == [name]


HOLDER = """
import sys, time
from pathlib import Path
from fgr import atomic
with atomic.alone(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(tmp_path, capfd):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as second:
            assert f"process {first.pid} on" in second.stderr.readline()
            first.kill()
            assert second.stdout.readline() == "held\n", "the lock of a killed process is free"
            second.stdin.close()
    assert os.listdir(tmp_path) == []
    with atomic.alone(tmp_path, "it"), atomic.alone(tmp_path, "another", "other"):
        pass
    assert capfd.readouterr().err == ""


def test_where_there_are_no_locks_nothing_waits(tmp_path, monkeypatch):
    import fcntl

    def refuse(handle, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with atomic.alone(tmp_path, "it"), atomic.alone(tmp_path, "it"):
        pass
