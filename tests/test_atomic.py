import os
import platform
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
    here = platform.node()
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
