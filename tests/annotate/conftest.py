"""A real Label Studio server on loopback, started from a migrated folder that is kept between runs; and people to work on it."""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import sqlite3
import time
from functools import partial, partialmethod
from pathlib import Path

import pytest
from studio_proxy import TIMEOUT, proxied

from fgr.annotate import pages, push, run, serve
from fgr.annotate.client import Client
from fgr.annotate.studio import Studio
from fgr.errors import UserError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fgr"


@pytest.fixture(scope="session")
def template() -> Path:
    """A migrated server folder without projects: about a minute the first time on a machine."""
    if importlib.util.find_spec("label_studio") is None:
        pytest.skip("label-studio is not installed: pip install 'fgr[annotate]'")
    folder = CACHE / f"label-studio-{importlib.metadata.version('label-studio')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                with serve.serving(folder, serve.free_port()):
                    pass
            except UserError as error:
                pytest.skip(f"Label Studio does not start here: {error}")
            with contextlib.closing(sqlite3.connect(folder / "label_studio.sqlite3")) as database:
                database.execute("pragma journal_mode = wal")
            (folder / "ready").touch()
    return folder


@pytest.fixture(scope="session")
def server(template, tmp_path_factory):
    """A running server of this session's own."""
    folder = tmp_path_factory.mktemp("label-studio") / "server"
    shutil.copytree(template, folder)
    with serve.serving(folder, serve.free_port()) as running:
        yield running


@pytest.fixture
def studio(server):
    with Studio(server.url, server.login.token, timeout=60, attempts=3) as client:
        yield client


@pytest.fixture
def dataset(tiny, tmp_path) -> Path:
    """A copy of the tiny dataset to write into."""
    folder = tmp_path / "dataset"
    shutil.copytree(tiny, folder)
    return folder


@pytest.fixture
def proxy(server, impatient):
    with proxied(server.url) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch):
    """Short waits, small batches and pages, so that a few samples make several."""
    monkeypatch.setattr(Client, "pause", staticmethod(lambda attempt, retry_after=0.0: time.sleep(0.05)))
    monkeypatch.setattr(run, "Studio", partial(Studio, timeout=TIMEOUT))
    monkeypatch.setattr(push, "UPLOAD_BATCH", 4)
    monkeypatch.setattr(Studio, "annotated_tasks", partialmethod(Studio.annotated_tasks, size=5))
    monkeypatch.setattr(pages, "PREFETCH", 1)  # faults happen in order
