"""Tasks reach the server once each, whatever happens to it; what people changed there by hand is refused by name."""

import shutil
import signal
import threading

import pytest
from small_campaign import expect_once_each, load, work_on_all
from studio_proxy import proxied

from fgr.annotate import run, serve
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.errors import UserError


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
    stopped = pytest.raises(UserError, match="is not available: no connection")
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
            campaign, added = run.push(load("killed"), dataset, proxy.url, token)
            assert added <= 8, "the first batch was kept"
            expect_once_each(studio, campaign)
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


def test_an_interface_edited_by_hand_is_refused_by_name(server, studio, dataset):
    run.push(load("edited"), dataset, server.url, server.login.token)
    project = studio.project("edited")
    changed = project["label_config"].replace('value="ringing"', 'value="halo"')
    assert changed != project["label_config"]
    studio.json("PATCH", f"/api/projects/{project['id']}/", json={"label_config": changed})
    with pytest.raises(UserError, match=r"(?s)edited.*(halo|ringing)"):
        run.push(load("edited", "select.samples=14"), dataset, server.url, server.login.token)


def test_a_deleted_task_is_added_again(server, studio, dataset):
    added = run.push(load("deleted"), dataset, server.url, server.login.token)[1]
    project = studio.project("deleted")["id"]
    first = studio.json("GET", "/api/tasks", params={"project": project, "page_size": 1})["tasks"][0]["id"]
    studio.call("DELETE", f"/api/tasks/{first}/")
    assert run.push(load("deleted"), dataset, server.url, server.login.token)[1] == 1
    assert sum(map(len, studio.keys(project).values())) == added
