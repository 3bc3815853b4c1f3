"""What goes wrong between people and the dataset, from a killed server to spoilt work: nothing doubled, nothing lost."""

import errno
import json
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial, partialmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from fgr import recipe
from fgr.annotate import plan as plans
from fgr.annotate import pull as pulls
from fgr.annotate import push as pushes
from fgr.annotate import run, serve, tasks
from fgr.annotate import studio as studios
from fgr.annotate.spool import Spool
from fgr.annotate.studio import Studio
from fgr.cli import app
from fgr.cli.shell import sentence
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec

TIMEOUT = 4.0  # seconds that the client waits in these tests
KNOBS = ("select.samples=12", "select.bins=2", "gold.share=0", "prediction.floor=0.02")


class Proxy(ThreadingHTTPServer):
    """A server on loopback before the real one that spoils chosen requests.

    `faults` are (method, part of the path, what): a status to answer instead; `lost` or `late` (done, but answered never or
    too late), `cut` (half an answer); or a function that is called before the request goes on. Each happens once, in order.
    """

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), Relay)
        self.target, self.faults, self.lock = target, [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fault(self, method, path):
        with self.lock:
            if self.faults and self.faults[0][0] == method and self.faults[0][1] in path:
                return self.faults.pop(0)[2]
        return None

    def handle_error(self, request, address):
        """Clients that hang up are meant to."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def relay(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path)
        if isinstance(fault, int):
            self.answer(fault, {"Retry-After": "0"}, b"{}")
            return
        if callable(fault):
            fault()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["Accept-Encoding"] = "identity"
        try:
            done = httpx.request(
                self.command, self.server.target + self.path, content=body, headers=headers, timeout=60, trust_env=False
            )
        except httpx.TransportError:
            self.close_connection = True
            return
        if fault == "late":
            time.sleep(TIMEOUT + 1)
        if fault in ("lost", "late"):
            self.close_connection = True
            return
        self.answer(done.status_code, {"Content-Type": done.headers.get("content-type", "")}, done.content, fault == "cut")

    do_GET = do_POST = do_PATCH = do_DELETE = relay

    def answer(self, status, headers, body, cut=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def proxied(target):
    with Proxy(target) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def proxy(server, impatient):
    with proxied(server.url) as made:
        yield made


@pytest.fixture
def impatient(monkeypatch):
    """Short waits, small batches and pages, so that a few samples make several."""
    monkeypatch.setattr(studios, "pause", lambda attempt, after=0.0: time.sleep(0.05))
    monkeypatch.setattr(run, "Studio", partial(Studio, timeout=TIMEOUT))
    monkeypatch.setattr(pushes, "UPLOAD_BATCH", 4)
    monkeypatch.setattr(Studio, "work", partialmethod(Studio.work, size=5))
    monkeypatch.setattr(studios, "AHEAD", 1)  # faults happen in order


def load(project, *more):
    return recipe.load("demo", "annotate", [*KNOBS, *more], {"name": project})


def score(value, **more):
    return [{"from_name": "score", "to_name": "composite", "type": "number", "value": {"number": value}, **more}]


def work_on_all(studio, project, value):
    """One person's score for every task."""
    found = [task for page in studio.tasks(studio.project(project)["id"], "id,data") for task in page]
    for task in found:
        studio.json("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": score(value), "lead_time": 9.0})
    return found


def once_each(studio, plan):
    found = studio.keys(studio.project(plan.name)["id"])
    assert found.keys() == {entry.key for entry in plan.entries}
    assert {len(ids) for ids in found.values()} == {1}, "no sample has two tasks"


def test_refusals_and_lost_answers_pass_and_double_nothing(proxy, server, studio, dataset):
    listing, upload, into = "/api/tasks?", "commit_to_project=false", "/import"
    proxy.faults = [
        ("GET", "whoami", 429), ("POST", "/api/projects/", "lost"), ("GET", listing, 500), ("POST", upload, 503),
        ("POST", upload, "lost"), ("POST", into, "lost"), ("POST", into, 429), ("POST", upload, "cut"),
        ("POST", into, "late"), ("GET", listing, "cut"),
    ]  # fmt: skip
    plan, added = run.push(load("faults"), dataset, proxy.url, server.login.token)
    assert not proxy.faults, "every fault has happened"
    assert added == 12
    once_each(studio, plan)
    work_on_all(studio, "faults", 50)
    proxy.faults = [("GET", "fields=all", 500), ("GET", "fields=all", "cut"), ("GET", "fields=all", "late")]
    tally = run.pull(dataset, "faults", server.login.token)
    assert not proxy.faults
    assert (tally.rows, tally.left_out) == (12, {})


def test_faults_without_end_are_a_sentence_that_tells_no_token(proxy, server, dataset):
    proxy.faults = [("GET", "whoami", 500)] * studios.ATTEMPTS
    with pytest.raises(UserError, match=r"does not work: the server answered 500 \(7 tries\)") as error:
        run.push(load("endless"), dataset, proxy.url, server.login.token)
    assert "run the same command again" in str(error.value)
    assert server.login.token not in str(error.value)


def test_waits_grow_and_heed_the_server(monkeypatch):
    waits = []
    monkeypatch.setattr(studios.time, "sleep", waits.append)
    monkeypatch.setattr(studios.random, "uniform", lambda low, high: 1.0)
    for attempt in range(8):
        studios.pause(attempt)
    studios.pause(0, after=7)
    studios.pause(0, after=9000)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 7, 30]


def killing(running, after):
    """Kills the server by its process id: before a request goes on (0), or that many seconds into it."""

    def kill():
        timer = threading.Timer(after, lambda: running.process.send_signal(signal.SIGKILL))
        timer.start()
        if not after:
            running.process.wait()

    return kill


def test_a_server_killed_between_and_during_batches(template, tmp_path, dataset, impatient):
    """Push is stopped before a batch, then within one; pull within a page, then between two; the same command goes on."""
    folder, port = tmp_path / "own", serve.free_port()
    shutil.copytree(template, folder)
    pushed, pulled = ("POST", "/import", lambda: None), ("GET", "fields=all", lambda: None)
    stopped = pytest.raises(UserError, match="does not work: no connection")
    with proxied(f"http://127.0.0.1:{port}") as proxy:
        with serve.serving(folder, port) as running:
            token = running.login.token
            proxy.faults = [pushed, pushed, (*pushed[:2], killing(running, 0))]
            with stopped:
                run.push(load("killed"), dataset, proxy.url, token)
        with serve.serving(folder, port) as running:
            proxy.faults = [pushed, (*pushed[:2], killing(running, 0.03))]
            with stopped:
                run.push(load("killed"), dataset, proxy.url, token)
        with serve.serving(folder, port) as running, Studio(running.url, token) as studio:
            plan, added = run.push(load("killed"), dataset, proxy.url, token)
            assert added <= 8, "the first batch was kept"
            once_each(studio, plan)
            work_on_all(studio, "killed", 40)
            proxy.faults = [pulled, (*pulled[:2], killing(running, 0.03))]
            with stopped:
                run.pull(dataset, "killed", token)
        with serve.serving(folder, port) as running:
            proxy.faults = [pulled, (*pulled[:2], killing(running, 0))]
            with stopped:
                run.pull(dataset, "killed", token)
            assert not proxy.faults, "the first page had come, the server was gone before the second"
        assert not tables.shards(dataset, "annotations"), "half a pull leaves no table"
        with serve.serving(folder, port):
            assert run.pull(dataset, "killed", token).rows == 12
            table = list(tables.read_rows(dataset, "annotations"))
            assert run.pull(dataset, "killed", token).rows == 12
            assert list(tables.read_rows(dataset, "annotations")) == table
            assert {row["score"] for row in table} == {40.0}


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


def test_spoilt_work_is_counted_and_the_rest_arrives(server, studio, dataset, impatient):
    plan, _ = run.push(load("spoilt", "prediction.source=none"), dataset, server.url, server.login.token)
    found = work_on_all(studio, "spoilt", 70)
    square = np.zeros((128, 128), np.uint8)
    square[:40, :40] = 3
    good, size = tasks.regions(square, "noise"), {"original_width": 64, "original_height": 128}
    broken = [good[0] | {"value": good[0]["value"] | {"rle": good[0]["value"]["rle"][:20]}}]
    for task, result in zip(found, (broken, [item | size for item in good], good), strict=False):
        url = f"/api/tasks/{task['id']}/annotations/"
        (old,) = studio.json("GET", url)
        studio.json("PATCH", f"/api/annotations/{old['id']}/", json={"result": result + score(20)})
    lost = found[3]["data"][tasks.KEY]
    for shard in tables.shards(dataset, "samples"):
        rows = [row for row in tables.read_shard(shard) if row["id"] != lost]
        tables.write_table(shard, "samples", rows)
    tally = run.pull(dataset, "spoilt", server.login.token)
    assert tally.rows == 9
    assert tally.left_out == {
        "a broken brush stroke": 1, "painted on an image of another size": 1, "a sample that is not in the dataset": 1,
    }  # fmt: skip
    assert len(tally.problems) == 3
    rows = {row["id"]: row for row in tables.read_rows(dataset, "annotations")}
    assert (codec.decode_mask(rows[found[2]["data"][tasks.KEY]]["degradation_map"]) > 0).sum() == 1600
    studio.call("DELETE", f"/api/tasks/{found[0]['id']}/")
    studio.call("DELETE", f"/api/tasks/{found[3]['id']}/")
    with pytest.raises(UserError, match=f"1 planned samples are not in .* the first is {lost}; the others were pushed"):
        run.push(load("spoilt", "prediction.source=none"), dataset, server.url, server.login.token)
    assert len(studio.keys(studio.project("spoilt")["id"])) == len(plan.entries) - 1
    studio.call("DELETE", f"/api/tasks/{found[5]['id']}/")
    assert run.pull(dataset, "spoilt", server.login.token).rows == 9, "a deleted task's work stays"
    assert run.pull(dataset, "spoilt", server.login.token, everything=True).rows == 8, "until everything is read again"
    shutil.rmtree(dataset / "annotations")
    assert run.pull(dataset, "spoilt", server.login.token).rows == 8, "a removed table comes back whole"
    studio.call("DELETE", f"/api/projects/{studio.project('spoilt')['id']}/")
    with pytest.raises(UserError, match="has no project 'spoilt'"):
        run.pull(dataset, "spoilt", server.login.token)


def test_work_on_both_of_two_tasks_for_a_sample_counts(server, studio, dataset, impatient):
    run.push(load("twins", "select.samples=3", "prediction.source=none"), dataset, server.url, server.login.token)
    project = studio.project("twins")["id"]
    found = work_on_all(studio, "twins", 30)
    body = {"email": "twin@example.org", "username": "twin", "password": "a-long-secret-1"}
    other = studio.json("POST", "/api/users/", json=body)["id"]
    again = [{"data": task["data"]} for task in found]
    again[0]["annotations"] = [{"result": score(80), "completed_by": other}]
    studio.json("POST", f"/api/projects/{project}/import", json=again)
    assert run.push(load("twins", "select.samples=3", "prediction.source=none"), dataset, server.url, server.login.token)[1] == 0
    left = studio.keys(project)
    assert {key: len(ids) for key, ids in left.items()} == {task["data"][tasks.KEY]: 1 + (task is found[0]) for task in found}
    assert run.pull(dataset, "twins", server.login.token).rows == 4
    assert run.pull(dataset, "twins", server.login.token).rows == 4
    later(dataset, "twins")
    work_on(studio, min(left[found[0]["data"][tasks.KEY]]), 31)
    assert run.pull(dataset, "twins", server.login.token).rows == 4, "the twin that did not change keeps its row"


def work_on(studio, task, value):
    return studio.json("POST", f"/api/tasks/{task}/annotations/", json={"result": score(value), "lead_time": 9.0})["id"]


def later(dataset, name):
    """As if the last pull were longer ago than the margin that is looked back."""
    plan = plans.load(dataset, name)
    plans.save(dataset, replace(plan, pulled={room: moved(time) for room, time in plan.pulled.items()}))


def moved(time):
    return (datetime.fromisoformat(time) + pulls.MARGIN).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_work_deleted_from_one_persons_room_goes_and_the_others_stays(server, studio, dataset, impatient):
    knobs = ("select.samples=3", "prediction.source=none", "annotators=[ada,ben]", "overlap=2")
    run.push(load("named", *knobs), dataset, server.url, server.login.token)
    people = {}
    for name in ("ada", "ben"):
        body = {"email": f"{name}@named.org", "username": f"{name}-named", "password": "a-long-secret-1"}
        people[name] = studio.json("POST", "/api/users/", json=body)["id"]
    made = {}
    for name, user in people.items():
        for task in (task for page in studio.tasks(studio.project(f"named · {name}")["id"], "id,data") for task in page):
            body = {"result": score(40), "completed_by": user}
            made[name, task["data"][tasks.KEY]] = studio.json("POST", f"/api/tasks/{task['id']}/annotations/", json=body)["id"]
    assert len(made) == 6
    assert run.pull(dataset, "named", server.login.token).rows == 6
    later(dataset, "named")
    table = list(tables.read_rows(dataset, "annotations"))
    key = table[0]["id"]
    studio.call("DELETE", f"/api/annotations/{made['ben', key]}/")
    assert run.pull(dataset, "named", server.login.token).rows == 5
    ben = plans.pseudonym(plans.salt(dataset), "ben@named.org")
    assert list(tables.read_rows(dataset, "annotations")) == [row for row in table if (row["id"], row["annotator"]) != (key, ben)]


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
def test_an_export_made_by_hand_is_the_same_work(kind, server, studio, dataset, impatient, tmp_path):
    name = f"export {kind}"
    run.push(load(name, "select.samples=3", "prediction.source=none"), dataset, server.url, server.login.token)
    found = work_on_all(studio, name, 55)
    stars = np.zeros((128, 128), np.uint8)
    stars[:40, :40], stars[60:, 60:] = 2, 5
    (old,) = studio.json("GET", f"/api/tasks/{found[0]['id']}/annotations/")
    comment = {"from_name": "comment", "to_name": "composite", "type": "textarea", "value": {"text": ["<b>a</b>", "b"]}}
    studio.json(
        "PATCH", f"/api/annotations/{old['id']}/", json={"result": [*tasks.regions(stars, "colour"), *score(12), comment]}
    )
    file = tmp_path / "export.json"
    file.write_bytes(
        studio.call("GET", f"/api/projects/{studio.project(name)['id']}/export", params={"exportType": kind}).content
    )
    assert run.read_export(dataset, name, file).rows == 3
    by_hand = list(tables.read_rows(dataset, "annotations"))
    assert run.pull(dataset, name, server.login.token).rows == 3, "the same person, now known by address, is not doubled"
    pulled = list(tables.read_rows(dataset, "annotations"))
    known = {key: value for key, value in pulled[0].items() if key != "annotator"}
    assert known == {key: value for key, value in by_hand[0].items() if key != "annotator"}
    row = next(row for row in pulled if row["id"] == found[0]["data"][tasks.KEY])
    assert np.array_equal(codec.decode_mask(row["degradation_map"]), stars * 51)
    assert row["comment"] == "<b>a</b>\nb"
    assert run.read_export(dataset, name, file).rows == 3
    assert list(tables.read_rows(dataset, "annotations")) == pulled


def test_an_export_that_is_none(dataset, tmp_path):
    file = tmp_path / "export.json"
    for text, says in (("{", "is not JSON"), (json.dumps({"a": 1}), "is no export"), ("\x00", "is not JSON")):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            run.read_export(dataset, "x", file)


def test_a_full_disk(server, studio, dataset, impatient, monkeypatch):
    with Spool("annotations") as spool:
        spool._rows.execute("pragma max_page_count = 8")
        row = {"id": "s", "annotator": "a", "degradation_map": bytes(100_000)}
        with pytest.raises(OSError, match="No space") as error:
            spool.put(row, "", "")
        assert "No space is left on the disk" in sentence(error.value)
    run.push(load("full", "select.samples=3", "prediction.source=none"), dataset, server.url, server.login.token)
    work_on_all(studio, "full", 10)
    run.pull(dataset, "full", server.login.token)
    work_on_all(studio, "full", 20)
    before = list(tables.read_rows(dataset, "annotations"))
    since = plans.load(dataset, "full").pulled

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            run.pull(dataset, "full", server.login.token)
    assert list(tables.read_rows(dataset, "annotations")) == before
    assert not list(dataset.rglob("*.tmp"))
    assert plans.load(dataset, "full").pulled == since
    run.pull(dataset, "full", server.login.token)
    assert {row["score"] for row in tables.read_rows(dataset, "annotations")} == {20.0}


def test_preferences_go_round(server, studio, dataset, impatient):
    chosen = recipe.load("preference", "annotate", ["select.samples=4"], {"name": "pairs"})
    _, added = run.push(chosen, dataset, server.url, server.login.token)
    assert added == 4
    found = [task for page in studio.tasks(studio.project("pairs")["id"], "id,data") for task in page]
    for task, choice in zip(found, ("left", "right", "tie", "left"), strict=True):
        result = [{"from_name": "preference", "to_name": "left", "type": "choices", "value": {"choices": [choice]}}]
        studio.json("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": result})
    assert run.pull(dataset, "pairs", server.login.token).rows == 4
    rows = {f"{row['left_id']}|{row['right_id']}": row["choice"] for row in tables.read_rows(dataset, "preferences")}
    assert rows == {task["data"][tasks.KEY]: choice for task, choice in zip(found, ("left", "right", "tie", "left"), strict=True)}
    shown = run.status(dataset, "pairs", server.login.token)
    assert (shown["annotations"], shown["samples_begun"], shown["alpha"], shown["dice"]) == (4, 4, None, None)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    strengths = run.consensus(chosen, dataset)["strengths"]
    left, right = found[0]["data"][tasks.KEY].split("|")
    assert strengths[left] > strengths[right]
    studio.call("DELETE", f"/api/tasks/{found[1]['id']}/")
    assert run.pull(dataset, "pairs", server.login.token, everything=True).rows == 3
