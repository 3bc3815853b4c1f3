"""The ML backend over loopback, as Label Studio calls it."""

import httpx
import numpy as np
import pytest
from small_campaign import left_half

from fgr.annotate import brush, ml_backend, tasks
from fgr.dataset import tables
from fgr.recipe.annotate import Prediction


@pytest.fixture
def backend(tiny):
    with (
        ml_backend.listening(tiny, left_half, Prediction(), 0) as (server, _),
        httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client,
    ):
        yield client


def test_a_map_comes_back_as_painted_regions_in_the_order_asked(backend, tiny):
    sample = next(iter(tables.read_rows(tiny, "samples", ["id"])))["id"]
    asked = [{"data": {tasks.KEY: "unknown"}}, {"data": {tasks.KEY: sample}}, {}]
    results = backend.post("/predict", json={"tasks": asked}).json()["results"]
    assert [len(one["result"]) > 0 for one in results] == [False, True, False]
    painted = np.zeros((128, 128), bool)
    for item in results[1]["result"]:
        painted |= brush.decode(item["value"]["rle"], 128, 128) >= tasks.PAINTED
    expected = left_half(np.zeros((128, 128, 3)))[0] > 0
    assert (painted & expected).sum() / (painted | expected).sum() > 0.9


def test_it_answers_what_label_studio_asks_of_a_backend(backend):
    assert backend.get("/health").json() == {"status": "UP"}
    assert backend.post("/setup", json={"project": "1"}).json() == {"model_version": ml_backend.VERSION}
    assert backend.post("/predict", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert backend.post("/predict", json={}).json() == {"results": []}
