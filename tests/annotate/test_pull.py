"""What people did arrives whole and once: spoilt work is counted, deleted work goes, an interrupted pull changes nothing."""

import errno
import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from small_campaign import load, score, work_on_all

from fgr import recipe
from fgr.annotate import campaign as campaigns
from fgr.annotate import pull, run, tasks
from fgr.cli.shell import sentence
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec


def test_spoilt_work_is_counted_and_the_rest_arrives(server, studio, dataset, impatient):
    campaign, _ = run.push(load("spoilt", "prediction.source=none"), dataset, server.url, server.login.token)
    found = work_on_all(studio, "spoilt", 70)
    square = np.zeros((128, 128), np.uint8)
    square[:40, :40] = 3
    good, size = tasks.regions(square, 5), {"original_width": 64, "original_height": 128}
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
    with pytest.raises(UserError, match=f"1 selected samples are no longer in .* the first is {lost}; the others were pushed"):
        run.push(load("spoilt", "prediction.source=none"), dataset, server.url, server.login.token)
    assert len(studio.keys(studio.project("spoilt")["id"])) == len(campaign.entries) - 1
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
    campaign = campaigns.load(dataset, name)
    campaigns.save(dataset, replace(campaign, pulled={name: moved(time) for name, time in campaign.pulled.items()}))


def moved(time):
    return (datetime.fromisoformat(time) + pull.MARGIN).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_work_deleted_from_one_persons_project_goes_and_the_others_stays(server, studio, dataset, impatient):
    overrides = ("select.samples=3", "prediction.source=none", "annotators=[ada,ben]", "raters=2")
    run.push(load("named", *overrides), dataset, server.url, server.login.token)
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
    ben = campaigns.pseudonym(campaigns.read_salt(dataset), "ben@named.org")
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
    studio.json("PATCH", f"/api/annotations/{old['id']}/", json={"result": [*tasks.regions(stars, 4), *score(12), comment]})
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
    for text, says in (("{", "is not JSON"), (json.dumps({"a": 1}), "is not an export"), ("\x00", "is not JSON")):
        file.write_text(text)
        with pytest.raises(UserError, match=says):
            run.read_export(dataset, "x", file)


def test_a_full_disk(server, studio, dataset, impatient, monkeypatch):
    real = sqlite3.connect

    def small(*given, **options):
        connection = real(*given, **options)
        connection.execute("pragma max_page_count = 8")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(pull.sqlite3, "connect", small)
        spool = pull.Spool("annotations")
    with spool:
        row = {"id": "s", "annotator": "a", "degradation_map": bytes(100_000)}
        with pytest.raises(OSError, match="No space") as error:
            spool.put(row, "", "")
        assert "No space is left on the disk" in sentence(error.value)
    run.push(load("full", "select.samples=3", "prediction.source=none"), dataset, server.url, server.login.token)
    work_on_all(studio, "full", 10)
    run.pull(dataset, "full", server.login.token)
    work_on_all(studio, "full", 20)
    before = list(tables.read_rows(dataset, "annotations"))
    since = campaigns.load(dataset, "full").pulled

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            run.pull(dataset, "full", server.login.token)
    assert list(tables.read_rows(dataset, "annotations")) == before
    assert not list(dataset.rglob("*.tmp"))
    assert campaigns.load(dataset, "full").pulled == since
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
