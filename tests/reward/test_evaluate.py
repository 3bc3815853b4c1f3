import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fgr.cli import app
from fgr.reward import evaluate, splits, summary
from fgr.reward.evaluate import evaluate_reward_model, records


class Oracle(torch.nn.Module):
    """Knows how the dataset's defects look: noise. Its map is the local noise, its score the negated mean of it."""

    settings, multiple = {}, 16

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def pooled(self, image, valid):
        residual = (image - torch.nn.functional.avg_pool2d(image, 3, 1, 1)).abs().mean(1, keepdim=True)
        map_ = torch.nn.functional.avg_pool2d(residual, 9, 1, 4).clamp(0, 1)
        return -(map_ * valid).sum((2, 3)), valid.sum((2, 3)), map_

    def score_of(self, sums, weight):
        return (sums / weight).squeeze(1)


@pytest.fixture(scope="module")
def result(trained, data):
    return evaluate_reward_model(str(trained), str(data), "test", None, "cpu")


def test_an_evaluation_says_what_was_asked_for(result):
    assert result["rows"] == 6
    assert set(result["maps"]) == {
        "model",
        "constant",
        "gradient energy",
        "flatness",
        "high frequency",
        "centre",
        "mask (oracle)",
    }
    assert {"model", "gradient energy", "smoothness", "no-reference PSNR", "mask area (oracle)"} == set(result["score"])
    assert result["maps"]["mask (oracle)"]["ap"] == pytest.approx(1)
    assert result["maps"]["constant"]["auc"] == pytest.approx(0.5)
    assert set(result["by_sr_model"]) == {"alpha", "beta"}
    assert 0 <= result["empty"]["sham"]["mean"] <= 1
    assert np.isfinite(result["clean"]["corr_base"])
    assert sum(result["reliability"]["share"]) == pytest.approx(1)
    assert result["protocol"]["split"] == "test"


def test_a_model_that_knows_the_defects_beats_the_baselines(data):
    rows = splits.open_split(str(data), "train")
    found = summary.summary(list(records(Oracle(), rows)))
    assert found["triplets"]["model"]["accuracy"] > 0.8
    assert found["pairs_by_area"]
    assert found["maps"]["model"]["ap"] > found["maps"]["constant"]["ap"] + 0.05


def test_what_labels_do_not_show_is_beside_them(result):
    probes = result["probes"]
    assert set(probes) == {"pairs", "gap", "planting", "planted", "random", "approach", "invariances"}
    assert probes["pairs"]["photographs"] == probes["pairs"]["images"] == 5  # of six rows one is a sham
    assert set(probes["planted"]["kinds"]["noise 4"]["sr"]["score"]) >= {"change", "low", "high", "gaps", "right"}
    assert probes["invariances"]["batch"]["worst"] < 1e-4
    assert result["maps"]["model"]["ap_low"] <= result["maps"]["model"]["ap"] <= result["maps"]["model"]["ap_high"]
    assert result["notes"] == []


def test_parts_are_chosen_and_bad_ones_are_sentences(trained, data, tmp_path):
    command = ["evaluate", "--reward", str(trained), "--data", str(data), "--pairs", "2", "--device", "cpu"]
    outcome = CliRunner().invoke(app, [*command, "--parts", "ascent,random", "--draws", "1", "--out", str(tmp_path / "e.json")])
    assert outcome.exit_code == 0, outcome.output
    assert "gradient ascent within ±2 of 255" in outcome.stdout
    assert "Triplets" not in outcome.stdout
    written = json.loads((tmp_path / "e.json").read_text())
    assert (written["protocol"]["parts"], written["protocol"]["draws"]) == (["ascent", "random"], 1)
    assert written["probes"]["ascent"]["1"]["ascent"]["images"] == 2
    for words, sentence in (
        (["--parts", "maps"], "There is no part 'maps'"),
        (["--systems", "bicubic"], "Name it with --start"),
        (["--systems", "bicubic", "--start", "bicubic", "--parts", "systems"], "can be made again"),
    ):
        outcome = CliRunner().invoke(app, [*command, *words])
        assert outcome.exit_code == 1
        assert sentence in str(outcome.exception)
    assert CliRunner().invoke(app, ["evaluate", "bicubic", "--data", str(data), "--parts", "labels"]).exit_code == 2


def test_evaluate_prints_and_writes(trained, data, tmp_path):
    command = [
        "evaluate",
        "--reward",
        str(trained / "stage-0"),
        "--data",
        str(data),
        "--limit",
        "3",
        "--parts",
        "labels",
        "--out",
        str(tmp_path / "e.json"),
    ]
    outcome = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert outcome.exit_code == 0, outcome.output
    assert "Triplets in order" in outcome.stdout
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["rows"] == 3
    assert written["protocol"]["model"]["stage"] == 0


def test_workers_are_started_for_many_rows_where_there_are_more_than_two_cores(monkeypatch):
    for cores, wanted in ((1, 0), (2, 0), (4, 2), (16, 8), (128, 16)):
        monkeypatch.setattr(evaluate, "cores", lambda cores=cores: cores)
        assert [evaluate.worker_count(rows) for rows in (10, 200)] == [0, wanted]


@pytest.mark.parametrize(("set_before", "cores", "wanted"), [(1, 16, 1), (3, 2, 2)])
def test_rows_are_judged_with_no_more_threads_than_were_set_or_cores_are_left(
    trained, data, monkeypatch, set_before, cores, wanted
):
    seen, real, before = [], evaluate.records, torch.get_num_threads()

    def watched(*given, **named):
        seen.append(torch.get_num_threads())
        return real(*given, **named)

    monkeypatch.setattr(evaluate, "records", watched)
    monkeypatch.setattr(evaluate, "cores", lambda: cores)
    torch.set_num_threads(set_before)
    try:
        evaluate_reward_model(str(trained), str(data), "test", 2, "cpu", parts=["labels"])
        assert torch.get_num_threads() == set_before
    finally:
        torch.set_num_threads(before)
    assert seen == [wanted]
