"""`fgr annotate serve` as a program: its end is the end of the server."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fgr.annotate import serve


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
