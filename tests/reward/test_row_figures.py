"""Rows in batches and in worker processes: the same records as one by one."""

import os

import numpy as np
import pytest
import torch

from fgr.errors import UserError
from fgr.reward import evaluate, splits
from fgr.reward.model import FinPercepRM
from fgr.reward.row_figures import JudgedRow, record, row_workers
from fgr.reward.score import score, score_many


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    found = FinPercepRM(width=16).eval()
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return found


def judged_row(known):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for name in ("sr", "composite", "reference")}
    mask = np.zeros((32, 32), np.uint8)
    mask[:8] = 255
    return JudgedRow(known, images, mask, mask.astype(np.uint16) * 100, rng.random((32, 32)).astype(np.float32), (0.1, 0.2, 0.3))


def test_a_record_by_hand():
    found = record(judged_row({"mask_area": 0.25, "id": "x"}))
    assert found["id"] == "x"
    assert found["scores"]["model"] == [0.1, 0.2, 0.3]
    assert found["scores"]["mask area (oracle)"] == [-1, -0.25, 0]
    assert found["maps"]["mask (oracle)"]["ap"] == found["maps"]["mask (oracle)"]["ap_mask"] == 1
    assert found["maps"]["constant"]["ap_mask"] == 0.25


def test_batches_and_workers_change_no_record_and_shared_images_are_judged_once(data, model, monkeypatch):
    rows = splits.open_split(str(data), "train")
    rows = [*rows, *rows.select(range(4))]  # the last four share everything
    monkeypatch.setattr(evaluate, "TOGETHER", 1)
    single = list(evaluate.records(model, rows))
    seen = []
    monkeypatch.setattr(evaluate, "score_many", lambda *given: seen_by(seen, score_many(*given)))
    monkeypatch.setattr(evaluate, "TOGETHER", 5)
    together = list(evaluate.records(model, rows, model, workers=1))
    assert [one["id"] for one in together] == [one["id"] for one in single]
    for one, other in zip(together, single, strict=True):
        assert one["scores"]["model"] == pytest.approx(other["scores"]["model"], abs=1e-5)
        assert one["base"] == pytest.approx(one["scores"]["model"][2], abs=1e-5)
        assert one["clean"] == pytest.approx(other["clean"], abs=1e-5)
        for name, figures in other["maps"].items():
            assert one["maps"][name] == pytest.approx(figures, abs=1e-3, nan_ok=True)
    assert len(seen) == len(rows) + 12 + 12 + 12  # composites; references and their S_base; restored images


def seen_by(seen, judgements):
    for one in judgements:
        seen.append(1)
        yield one


def test_many_images_are_scored_as_each_alone(model):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (side, 48, 3)).astype(np.uint8) for side in (40, 40, 40, 56, 40)]
    for tile, draws in ((0, 0), (1024, 0), (32, 0), (1024, 2)):
        for (value, map_), image in zip(score_many(model, images, tile, draws), images, strict=True):
            alone = score(model, image, tile, draws)
            assert value == pytest.approx(alone[0], abs=1e-5)
            assert np.allclose(map_, alone[1], atol=1e-5)


def test_a_killed_worker_is_a_sentence():
    def explode():
        with row_workers(1) as start:
            start([judged_row(_Bomb())])[0]()

    with pytest.raises(UserError, match="A worker process was killed"):
        explode()


class _Bomb:
    """Ends the process that it arrives in."""

    def __reduce__(self):
        return os._exit, (9,)
