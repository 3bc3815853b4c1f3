"""`fgr annotate serve` as a program: its end is the end of the server."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest

from fgr.annotate import serve
from fgr.errors import UserError


@contextlib.contextmanager
def program(template, folder):
    """The running command and the process of its server."""
    shutil.copytree(template, folder)
    (folder / "server.log").unlink(missing_ok=True)
    command = [sys.executable, "-m", "fgr", "annotate", "serve", str(folder), "--port", str(serve.free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            until = time.monotonic() + 60
            while not (children := psutil.Process(running.pid).children()):
                assert time.monotonic() < until
                time.sleep(0.01)
            yield running, children[0]
        finally:
            running.kill()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def test_a_killed_command_leaves_no_server(template, tmp_path):
    with program(template, tmp_path / "server") as (running, server):
        assert running.stdout.readline().startswith("url ")
        running.kill()
        running.wait()
        server.wait(20)


def fake(monkeypatch, script):
    """A program in the place of Label Studio; `PORT` in it is the server's."""
    monkeypatch.setattr(serve, "_command", lambda: [sys.executable, "-c", script])
    monkeypatch.setattr("fgr.annotate.studio.Studio.me", lambda self: {})
    monkeypatch.setattr(serve, "SHOW", 0.3)


SLOW = """
import http.server, sqlite3, sys, time
base = sqlite3.connect("../label_studio.sqlite3")
base.execute("create table if not exists django_migrations (name text)")
for i in range(12):
    base.execute("insert into django_migrations values (?)", [str(i)])
    base.commit()
    time.sleep({pause})
{end}
class Up(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Up).serve_forever()
"""


def test_a_slow_start_is_waited_for_and_told_as_long_as_there_is_progress(tmp_path, monkeypatch, capfd):
    fake(monkeypatch, SLOW.format(pause=0.2, end=""))
    monkeypatch.setattr(serve, "READY", 1.0)
    with serve.serving(tmp_path / "server", serve.free_port()):
        pass
    told = capfd.readouterr().err
    assert "migrations of the database applied" in told
    fake(monkeypatch, SLOW.format(pause=0.2, end="time.sleep(60)"))
    began = time.monotonic()
    with pytest.raises(UserError, match=r"no progress for 1 s"), serve.serving(tmp_path / "server", serve.free_port()):
        pass
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("work", "kept"), [(0, False), (1, True)])
def test_a_first_start_that_was_cut_off_is_begun_anew(tmp_path, monkeypatch, capfd, work, kept):
    """Its half-made database goes, unless somebody's work is in it."""
    folder = tmp_path / "server"
    half = (
        "base.execute('create table half (x)'); base.execute('create table project (x)')\n"
        f"base.executemany('insert into project values (?)', [[1]] * {work}); base.commit()"
    )
    fake(monkeypatch, SLOW.format(pause=0.01, end=f"{half}\nsys.exit(3)"))
    with pytest.raises(UserError, match="exited while starting"), serve.serving(folder, serve.free_port()):
        pass
    fake(monkeypatch, SLOW.format(pause=0.01, end=""))
    with serve.serving(folder, serve.free_port()):
        pass
    assert ("the database is made anew" in capfd.readouterr().err) != kept
    with contextlib.closing(sqlite3.connect(folder / serve.DATABASE)) as base:
        assert bool(base.execute("select name from sqlite_master where name = 'half'").fetchall()) == kept
    assert not (folder / serve.STARTING).exists()
    with serve.serving(folder, serve.free_port()):
        pass
    assert "made anew" not in capfd.readouterr().err


@pytest.mark.parametrize(("number", "started"), [(signal.SIGTERM, True), (signal.SIGHUP, False)])
def test_a_signal_that_ends_the_command_ends_the_server(number, started, template, tmp_path):
    with program(template, tmp_path / "server") as (running, server):
        if started:
            assert running.stdout.readline().startswith("url ")
        else:
            time.sleep(0.5)  # in the middle of Django's start
        running.send_signal(number)
        assert running.wait(30) == 128 + number
        assert not server.is_running()
