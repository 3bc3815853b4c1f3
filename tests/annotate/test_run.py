"""The whole loop against a real Label Studio server, through the commands' own functions."""

import io
import json

import datasets
import numpy as np
import pytest
from typer.testing import CliRunner

from fgr import recipe
from fgr.annotate import campaign as campaigns
from fgr.annotate import run, tasks
from fgr.annotate.labelling import KINDS
from fgr.annotate.studio import Studio
from fgr.cli import app
from fgr.dataset import tables, verify
from fgr.errors import UserError
from fgr.generate.run import generate
from fgr.images import codec

OVERRIDES = ("select.samples=12", "select.bins=2", "gold.share=0.2", "gold.worst=0.6", "gold.area=0.01", "prediction.floor=0.02")
SLOPPY = 2


@pytest.fixture(scope="module")
def people(server):
    """Ids of three annotators."""
    made = []
    with Studio(server.url, server.login.token) as studio:
        for name in ("ada", "ben", "cem"):
            body = {"email": f"{name}@example.org", "username": name, "password": "a-long-secret-1"}
            made.append(int(studio.json("POST", "/api/users/", json=body)["id"]))
    return made


def load(project, *more):
    return recipe.load("demo", "annotate", [*OVERRIDES, *more], {"name": project})


def annotate(studio, project, samples, who, rng):
    """`who` paints every task's true map with some noise and scores it near its heuristic score; the sloppy one at random."""
    found = studio.project(project)
    for page in studio.tasks(found["id"], "id,data"):
        for task in page:
            row = samples[task["data"][tasks.KEY]]
            stars = tasks.levels(codec.decode_map(row["degradation_map"]), smooth=0, floor=0.05, min_area=0.0005)
            score = float(np.clip(100 * row["score"] + rng.normal(0, 2), 0, 100))
            if who[0] == SLOPPY:
                stars, score = np.zeros_like(stars), float(rng.uniform(0, 100))
            result = tasks.regions(stars, KINDS.index("ringing"))
            result.append({"from_name": "score", "to_name": "composite", "type": "number", "value": {"number": round(score)}})
            body = {"result": result, "lead_time": 20.0, "completed_by": who[1]}
            studio.json("POST", f"/api/tasks/{task['id']}/annotations/", json=body)


@pytest.fixture
def larger(tiny_overrides, tmp_path):
    """A dataset of enough samples for thirty tasks."""
    wishes = {"models": ["realesr-animevideov3", "bicubic"], "samples": 40}
    assert generate(recipe.load("demo", "generate", tiny_overrides, wishes), tmp_path / "larger", workers=1, device="cpu")
    return tmp_path / "larger"


def test_from_push_to_consensus(server, studio, people, larger, monkeypatch, tmp_path):
    dataset = larger
    monkeypatch.setenv(run.VARIABLE, server.login.token)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    chosen = load("loop", "select.samples=30", "gold.share=0.1", "gold.worst=0.2")
    campaign, added = run.push(chosen, dataset, server.url, server.login.token)
    assert added == len(campaign.entries) >= 30
    assert campaign.gold, "gold samples are hidden among the others"
    assert run.push(chosen, dataset, server.url, server.login.token)[1] == 0, "running again adds nothing"
    assert studio.json("GET", f"/api/projects/{studio.project('loop')['id']}/")["total_predictions_number"] >= 3

    samples = {row["id"]: row for row in tables.read_rows(dataset, "samples")}
    before = {path: path.read_bytes() for path in (dataset / "samples").iterdir()}
    for index, who in enumerate(people[:2]):
        annotate(studio, "loop", samples, (index, who), np.random.default_rng(index))
    assert run.pull(dataset, "loop", server.login.token).rows == 2 * added
    annotate(studio, "loop", samples, (SLOPPY, people[2]), np.random.default_rng(9))
    first = studio.json("GET", "/api/tasks", params={"project": studio.project("loop")["id"], "page_size": 1})["tasks"][0]
    skipped = {"result": [], "was_cancelled": True, "completed_by": people[0]}
    studio.json("POST", f"/api/tasks/{first['id']}/annotations/", json=skipped)

    tally = run.pull(dataset, "loop", server.login.token)
    assert tally.rows == 3 * added, "skipped work is not stored"
    table = list(tables.read_rows(dataset, "annotations"))
    assert len({row["annotator"] for row in table}) == 3
    assert not any("example.org" in row["annotator"] for row in table)
    again = run.pull(dataset, "loop", server.login.token, everything=True)
    assert again.rows == 3 * added
    assert list(tables.read_rows(dataset, "annotations")) == table, "the same work gives the same table"

    done = CliRunner().invoke(app, ["annotate", "status", str(dataset), "--project", "loop", "--json"])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [row["done"] for row in shown["annotators"]] == [added] * 3
    report = run.consensus(chosen, dataset)
    found = {row["annotator"]: row["left_out"] for row in report["annotators"]}
    assert sum(map(bool, found.values())) == 1, found

    for config, rows in (("annotations", 3 * added), ("consensus", added), ("samples", len(samples))):
        loaded = datasets.load_dataset(str(dataset), config)
        assert sum(part.num_rows for part in loaded.values()) == rows
    row = datasets.load_dataset(str(dataset), "consensus", split="train")[0]
    assert np.asarray(row["degradation_map"]).shape == (128, 128)
    assert abs(row["score_mean"] - 100 * samples[row["id"]]["score"]) < 10
    assert {path: path.read_bytes() for path in (dataset / "samples").iterdir()} == before
    assert not list(verify.verify(dataset))


def test_a_wrong_token_and_no_token_are_explained(server, dataset, monkeypatch):
    with pytest.raises(UserError, match="token"):
        run.push(load("refused"), dataset, server.url, "0" * 40)
    assert campaigns.load(dataset, "refused") is None, "the mended command, at another address too, is not refused"
    monkeypatch.delenv(run.VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UserError, match="LABEL_STUDIO_API_KEY is not set"):
        run.token("http://127.0.0.1:9")


def test_another_recipe_of_a_pushed_project_is_refused(server, dataset):
    run.push(load("fixed"), dataset, server.url, server.login.token)
    with pytest.raises(UserError, match=r"raters: 3 there, 2 here"):
        run.push(load("fixed", "raters=2"), dataset, server.url, server.login.token)
    assert campaigns.load(dataset, "fixed").recipe["raters"] == 3
