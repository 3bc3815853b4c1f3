import os
import subprocess
import sys

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


def test_stale_files_of_running_processes_stay(tmp_path):
    mine, other = tmp_path / f".x.{os.getpid()}.tmp", tmp_path / ".y.999999999.tmp"
    mine.touch()
    other.touch()
    atomic.remove_stale(tmp_path)
    assert mine.exists()
    assert not other.exists()


def test_write_once_keeps_the_first_content(tmp_path):
    assert atomic.write_once(tmp_path / "a", b"first") == b"first"
    assert atomic.write_once(tmp_path / "a", b"second") == b"first"
    assert os.listdir(tmp_path) == ["a"]
