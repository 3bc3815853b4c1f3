"""Requests that fail, are lost or refused: repeated where that helps, told without the token where it does not."""

import httpx
import pytest
from small_campaign import expect_once_each, load, work_on_all
from typer.testing import CliRunner

from fgr.annotate import client, run
from fgr.annotate.studio import Studio
from fgr.cli import app
from fgr.errors import UserError


def test_refusals_and_lost_answers_pass_and_double_nothing(proxy, server, studio, dataset):
    listing, upload, into = "/api/tasks?", "commit_to_project=false", "/import"
    proxy.faults = [
        ("GET", "whoami", 429), ("POST", "/api/projects/", "lost"), ("GET", listing, 500), ("POST", upload, 503),
        ("POST", upload, "lost"), ("POST", into, "lost"), ("POST", into, 429), ("POST", upload, "cut"),
        ("POST", into, "late"), ("GET", listing, "cut"),
    ]  # fmt: skip
    campaign, added = run.push(load("faults"), dataset, proxy.url, server.login.token)
    assert not proxy.faults, "every fault has happened"
    assert added == 12
    expect_once_each(studio, campaign)
    work_on_all(studio, "faults", 50)
    proxy.faults = [("GET", "fields=all", 500), ("GET", "fields=all", "cut"), ("GET", "fields=all", "late")]
    tally = run.pull(dataset, "faults", server.login.token)
    assert not proxy.faults
    assert (tally.rows, tally.left_out) == (12, {})


def test_faults_without_end_are_a_sentence_that_tells_no_token(proxy, server, dataset):
    proxy.faults = [("GET", "whoami", 500)] * client.ATTEMPTS
    with pytest.raises(UserError, match=r"is not available: the server answered 500 \(7 tries\)") as error:
        run.push(load("endless"), dataset, proxy.url, server.login.token)
    assert "run the same command again" in str(error.value)
    assert server.login.token not in str(error.value)


def test_waits_grow_and_heed_the_server(monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(client.random, "uniform", lambda low, high: 1.0)
    for attempt in range(8):
        client.Client.pause(attempt)
    client.Client.pause(0, retry_after=7)
    client.Client.pause(0, retry_after=9000)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 7, 30]


def personal_token(server):
    """A personal access token, as a person makes one in the web page."""
    with httpx.Client(base_url=server.url, trust_env=False, follow_redirects=False, timeout=60) as client:
        client.get("/user/login/")
        form = {"email": server.login.email, "password": server.login.password}
        form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        client.post("/user/login/", data=form, headers={"Referer": f"{server.url}/user/login/"})
        headers = {"X-CSRFToken": client.cookies["csrftoken"], "Referer": server.url}
        return client.post("/api/token/", headers=headers).json()["token"]


def test_tokens_of_both_kinds_and_their_ends(proxy, server, dataset, monkeypatch):
    mine = personal_token(server)
    assert mine.count(".") == 2
    proxy.faults = [("GET", "/api/projects/", 401)]  # an access token that ran out in the middle
    assert run.push(load("personal"), dataset, proxy.url, mine)[1] == 12
    assert not proxy.faults
    head, body, _ = mine.split(".")
    for wrong in (f"{head}.{body}.{'A' * 43}", "x.y.z", "0" * 40):
        with pytest.raises(UserError, match=r"does not accept the token: it is wrong or expired") as error:
            run.pull(dataset, "personal", wrong)
        assert "Personal Access Token" in str(error.value)
        assert wrong not in str(error.value)
    monkeypatch.setenv(run.VARIABLE, mine)
    done = CliRunner().invoke(app, ["annotate", "pull", str(dataset), "--project", "personal"])
    assert done.exit_code == 0, done.output
    kept = b"".join(file.read_bytes() for file in dataset.rglob("*") if file.is_file())
    assert mine.encode() not in kept
    assert mine not in done.output
    with Studio(server.url, server.login.token) as studio:
        setting = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
        studio.json("POST", "/api/jwt/settings", json=setting)
    try:
        with pytest.raises(UserError, match="this organization has legacy tokens switched off"):
            run.pull(dataset, "personal", server.login.token)
    finally:
        with Studio(server.url, mine) as studio:
            studio.json("POST", "/api/jwt/settings", json=setting | {"legacy_api_tokens_enabled": True})
