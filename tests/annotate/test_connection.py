"""The ML backend connects itself to the pushed project, and leaves it as it was."""

import httpx
import pytest
from label_studio_sdk.ml.client import MlClient
from label_studio_sdk.webhooks.client import WebhooksClient
from small_campaign import left_half, load
from studio_double import URL, StudioDouble
from typer.testing import CliRunner

from fgr.annotate import campaign as campaigns
from fgr.annotate import connection, ml_backend, run, tasks
from fgr.annotate.campaign import Campaign, Entry
from fgr.cli import app
from fgr.errors import UserError
from fgr.recipe.annotate import Prediction

ADDRESS = "http://127.0.0.1:9090"


def campaign_of(name, interface="defects", **more):
    return Campaign(name, URL, {"interface": interface, "prediction": {"source": "heuristic"}}, {"": name}, **more)


def test_opened_tasks_are_painted_by_it_until_it_leaves(server, studio, dataset):
    campaign, _ = run.push(load("live"), dataset, server.url, server.login.token)
    project, held = studio.project("live")["id"], connection.unpainted(dataset, campaign)
    backends = MlClient(client_wrapper=studio.sdk)
    with ml_backend.listening(dataset, left_half, Prediction(), 0, held) as (backend, _):
        address = f"http://127.0.0.1:{backend.server_port}"
        backends.create(project=project, url=address, title=connection.TITLE)  # as a run that was killed leaves it
        with connection.connected(studio, campaign, address) as pages:
            assert pages == {"live": f"{server.url}/projects/{project}"}
            assert [one.url for one in backends.list(project=project)] == [address], "twice makes one entry"
            assert WebhooksClient(client_wrapper=studio.sdk).list(project=str(project)) == []
            opened = studio.json("GET", f"/api/projects/{project}/next/")
            (shown,) = opened["predictions"]
            assert shown["model_version"] == ml_backend.VERSION
            assert bool(shown["result"]) == (opened["data"][tasks.KEY] not in held)
    assert backends.list(project=project) == []
    assert studio.project("live")["model_version"] == "heuristic", "what was pushed is seen again"


def test_gold_and_cold_samples_stay_unpainted(tiny):
    entries = (Entry("a", ("",)), Entry("b", ("",), gold="worst"), Entry("c", ("",), cold=True))
    held = connection.unpainted(tiny, campaign_of("live", entries=entries))
    assert held == {"b", "c"}
    requested = [{"data": {tasks.KEY: "b"}}]
    assert ml_backend.predictions(tiny, left_half, Prediction(), requested, held)[0]["result"] == []


class Backends(StudioDouble):
    """A server whose project has ML backends."""

    def __init__(self, **more):
        super().__init__(**more)
        self.backends = []

    def answer(self, request):
        spoilt = self.spoil(request)
        if spoilt is not None:
            return spoilt
        if request.url.path.rstrip("/") == "/api/ml" and request.method == "POST":
            self.backends.append({"id": 5, "project": 1, "url": ADDRESS, "title": connection.TITLE})
            return httpx.Response(201, json=self.backends[-1])
        if request.url.path.rstrip("/") == "/api/ml":
            return httpx.Response(200, json=self.backends)
        if request.url.path.startswith("/api/ml/"):
            self.backends.clear()
            return httpx.Response(204)
        if request.url.path.startswith("/api/projects/1"):
            return httpx.Response(200, json=self.project)
        return httpx.Response(200, json=[]) if "webhooks" in request.url.path else super().answer(request)


@pytest.mark.parametrize(
    ("status", "said"), [(403, "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false"), (400, "does not reach the backend.*--address URL")]
)
def test_a_server_that_does_not_take_the_address_is_explained(monkeypatch, status, said):
    double = Backends(title="live")
    double.spoil = lambda request: httpx.Response(status, json={"detail": "no"}) if request.method == "POST" else None
    studio = double.studio(monkeypatch)
    with pytest.raises(UserError, match=f"(?s){said}"), connection.connected(studio, campaign_of("live"), ADDRESS):
        pass


def test_a_lost_answer_makes_no_second_entry_and_a_server_that_went_is_told(monkeypatch, capfd):
    double, lost = Backends(title="live"), [True]

    def once(request):
        if request.method == "POST" and lost:
            lost.clear()
            Backends.answer(double, request)
            return httpx.Response(502)
        return None

    double.spoil = once
    studio = double.studio(monkeypatch)
    with connection.connected(studio, campaign_of("live"), ADDRESS):
        assert len(double.backends) == 1
        double.spoil = lambda request: httpx.Response(503)
    assert "could not disconnect from http://studio.test/projects/1" in capfd.readouterr().err


def test_a_project_that_is_gone_is_named(monkeypatch):
    studio = Backends(title="another").studio(monkeypatch)
    with pytest.raises(UserError, match="has no project 'live'"), connection.connected(studio, campaign_of("live"), ADDRESS):
        pass


def test_which_project_it_connects_to(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"(?s)No project to connect to was pushed.*--no-connect"):
        connection.chosen(tmp_path, None)
    campaigns.save(tmp_path, campaign_of("pairs", "preference"))
    campaigns.save(tmp_path, campaign_of("one"))
    assert connection.chosen(tmp_path, None).name == "one"
    with pytest.raises(UserError, match="nothing to paint"):
        connection.chosen(tmp_path, "pairs")
    monkeypatch.delenv(run.VARIABLE, raising=False)
    told = CliRunner().invoke(app, ["annotate", "ml-backend", str(tmp_path), "--reward", "any"])
    assert told.exit_code == 1
    assert "No Label Studio token was given" in str(told.exception)
    campaigns.save(tmp_path, campaign_of("two"))
    with pytest.raises(UserError, match="one, two"):
        connection.chosen(tmp_path, None)
