"""`fgr annotate`: what push and status tell people, and whose token is taken."""

from collections import namedtuple

import pytest
from typer.testing import CliRunner

from fgr.annotate import run, serve
from fgr.cli import app
from fgr.errors import UserError

URL = "http://127.0.0.1:8123"
Pushed = namedtuple("Pushed", "name entries gold")


@pytest.fixture
def local(tmp_path, monkeypatch):
    """The folder of a local server of this user, which is said to run at URL; no token in the environment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(run.VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with serve.running(8123, tmp_path / "studio"):
        yield tmp_path / "studio"


def test_the_token_of_the_local_server_that_runs_there_is_taken_and_of_no_other(local, monkeypatch):
    with pytest.raises(UserError, match="no `fgr annotate serve` runs at http://127"):
        run.token(URL)
    own = serve.login(local).token
    assert run.token(URL) == run.token("http://localhost:8123") == own
    for elsewhere in ("http://127.0.0.1:8124", "http://example.org:8123", "http://example.org"):
        with pytest.raises(UserError, match="--show-token"):
            run.token(elsewhere)
    monkeypatch.setenv(run.VARIABLE, "given")
    assert run.token(URL) == "given"


def test_a_server_that_has_ended_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    serve.login(tmp_path / "studio")
    with serve.running(8123, tmp_path / "studio"), serve.running(8124, tmp_path / "other"):
        assert serve.local_token(URL)
        assert serve.local_token("http://127.0.0.1:8124") is None  # it has no login yet
    assert serve.local_token(URL) is None


def test_push_prints_the_projects_page_and_what_comes_next(local, tmp_path, monkeypatch):
    serve.login(local)
    monkeypatch.setattr(run, "push", lambda *_: (Pushed("my demo", [1, 2], {3: "sham"}), 2))
    monkeypatch.setattr(run, "links", lambda campaign, key: {campaign.name: f"{URL}/projects/7"})
    done = CliRunner().invoke(app, ["annotate", "push", str(tmp_path), "demo", "--url", URL])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{URL}/projects/7  my demo\n"
    assert "choose Label All Tasks" in done.stderr
    assert f"fgr annotate status {tmp_path} --project 'my demo'" in done.stderr


def test_status_explains_agreement_and_shows_no_empty_braces(local, tmp_path, monkeypatch):
    serve.login(local)
    figures = {"project": "demo", "alpha": 0.71, "dice": None, "done_by": None, "left_out": {}, "problems": [], "annotators": []}
    monkeypatch.setattr(run, "url_of", lambda *_: URL)
    monkeypatch.setattr(run, "status", lambda *_: figures)
    done = CliRunner().invoke(app, ["annotate", "status", str(tmp_path), "--project", "demo"])
    assert done.exit_code == 0, done.output
    assert "Krippendorff's alpha of the scores: 1 = all alike" in done.stdout
    assert "dice                 –   overlap of what two people painted" in done.stdout
    assert "{}" not in done.stdout


def test_consensus_shows_what_is_empty_as_a_dash(tmp_path, monkeypatch):
    report = {"samples": 3, "by_kind": {}, "reasons": {"gold": 2}, "annotators": []}
    monkeypatch.setattr(run, "consensus", lambda *_: report)
    done = CliRunner().invoke(app, ["annotate", "consensus", str(tmp_path), "demo"])
    assert done.exit_code == 0, done.output
    assert "by kind              –\n" in done.stdout
    assert "reasons              gold 2\n" in done.stdout
