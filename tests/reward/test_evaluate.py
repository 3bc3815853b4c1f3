import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.evaluate import show
from fgr.images import codec
from fgr.reward import score, splits, summary
from fgr.reward.evaluate import evaluate_reward_model, records
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import load_reward_model


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


def test_summaries_by_hand():
    def record(kind, model, scores, ap, area, source_id):
        figures = dict.fromkeys(
            ("ap", "cc", "auc", "sim", "kld", "nss", "mse", "mean", "iou@0.1", "f1@0.1", "iou@0.25", "f1@0.25"), ap
        )
        bins = {"share": [0.5, 0.5], "predicted": [0.1, 0.9], "observed": [0.3, 0.9]}
        return {
            "id": "x", "source_id": source_id, "photo_id": "p", "model": model, "mask_kind": kind, "mask_area": area,
            "score": 1 - area, "scores": {"model": scores}, "maps": {"model": figures}, "clean": figures, "bins": bins,
            "base": scores[2] * 2,
        }  # fmt: skip

    nan = float("nan")
    found = summary.summary(
        [
            record("ellipse", "a", [0.0, 0.5, 1.0], 0.8, 0.03, "1"),
            record("polygon", "b", [0.0, 2.0, 0.5], 0.4, 0.3, "2"),
            record("full", "b", [0.1, 0.1, 0.75], 0.6, 1.0, "3"),
            record("sham", "a", [0.0, 0.5, 1.0], nan, 0.1, "1"),
        ],
        held_out=["b", "c"],
    )
    assert found["maps"]["model"]["ap"] == pytest.approx(0.6)
    assert found["maps_by_area"]["2–5 %"]["ap"] == 0.8
    assert found["held_out"] == ["b"]
    assert found["by_sr_model"]["b"]["maps"]["model"]["ap"] == pytest.approx(0.5)
    assert found["triplets"]["model"]["accuracy"] == 0.5
    assert found["triplets"]["model"]["n"] == 2
    assert found["pairs_by_area"]["2–5 %"]["model"]["accuracy"] == 1
    assert found["clean"]["images"] == 3
    assert found["clean"]["corr_base"] == pytest.approx(1)
    assert found["reliability"]["ece"] == pytest.approx(0.1)
    assert found["empty"]["sham"]["rows"] == 1
    assert len(list(show.reward_model(found))) == 9


def test_a_model_that_knows_the_defects_beats_the_baselines(data):
    rows = splits.open_split(str(data), "train")
    found = summary.summary(list(records(Oracle(), rows)))
    assert found["triplets"]["model"]["accuracy"] > 0.8
    assert found["pairs_by_area"]
    assert found["maps"]["model"]["ap"] > found["maps"]["constant"]["ap"] + 0.05


def test_tiles_give_the_score_and_map_of_the_whole():
    torch.manual_seed(0)
    model = FinPercepRM().eval()
    for level in model.decoder.levels:
        torch.nn.init.normal_(level.out.weight, std=0.3)
    image = np.random.default_rng(0).integers(0, 256, (150, 333, 3), np.uint8)
    whole, map_ = score.score(model, image, tile=0)
    tiled, tiled_map = score.score(model, image, tile=64)
    assert tiled == pytest.approx(whole, abs=1e-5)
    assert map_.shape == (150, 333)
    assert map_.std() > 1e-3
    np.testing.assert_allclose(tiled_map, map_, atol=2e-3)
    direct, direct_map = model(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).float() / 255)
    assert whole == pytest.approx(direct.item(), abs=1e-5)
    np.testing.assert_allclose(map_, direct_map[0, 0].detach().numpy(), atol=1e-5)


def test_overlays_are_hot_where_the_map_is():
    image, map_ = np.full((32, 32, 3), 128, np.uint8), np.zeros((32, 32), np.float32)
    map_[:16] = 0.7
    drawn = score.overlay(image, map_).astype(int)
    assert np.array_equal(drawn[16:], np.full((16, 32, 3), 128))
    assert (drawn[:16, :, 0] - drawn[:16, :, 2]).min() > 50
    assert score.worst(map_, 0.5) == pytest.approx(0.7)


@pytest.fixture
def picture(tmp_path):
    import cv2

    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65535, (70, 50), np.uint16))  # 16-bit grey
    return path


def test_score_writes_json_lines_and_overlays(trained, picture, tmp_path):
    maps = tmp_path / "maps"
    outcome = CliRunner().invoke(
        app, ["score", str(picture), "--reward", str(trained), "--maps", str(maps), "--json", "--device", "cpu"]
    )
    assert outcome.exit_code == 0, outcome.output
    line = json.loads(outcome.stdout)
    expected, map_ = score.score(load_reward_model(trained), score.read(picture))
    assert line["score"] == pytest.approx(expected)
    assert line["map_worst"] == pytest.approx(score.worst(map_))
    assert codec.decode_rgb((maps / "picture.png-map.png").read_bytes()).shape == (70, 50, 3)


def test_score_speaks_to_people_too(trained, picture):
    outcome = CliRunner().invoke(app, ["score", str(picture.parent), "--reward", str(trained / "stage-0"), "--device", "cpu"])
    assert outcome.stdout.endswith(f"worst 0.000  {picture}\n")


def test_what_is_no_image_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no image"):
        score.expand([tmp_path / "nothing.png"])
    with pytest.raises(UserError, match="holds no images"):
        score.expand([tmp_path])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="it is not an image that can be read"):
        score.read(tmp_path / "text.png")


def test_evaluate_prints_and_writes(trained, data, tmp_path):
    command = [
        "evaluate",
        "--reward",
        str(trained / "stage-0"),
        "--data",
        str(data),
        "--limit",
        "3",
        "--out",
        str(tmp_path / "e.json"),
    ]
    outcome = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert outcome.exit_code == 0, outcome.output
    assert "Triplets in order" in outcome.stdout
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["rows"] == 3
    assert written["protocol"]["model"]["stage"] == 0


def test_train_rm_by_command_resumes(data, overrides, tmp_path):
    command = ["train-rm", "demo", *overrides, "stages=[1]", "base.steps=1", "--data", str(data), "--out", str(tmp_path / "rm")]
    for _ in range(2):
        outcome = CliRunner().invoke(app, [*command, "--device", "cpu"])
        assert outcome.exit_code == 0, outcome.output
        assert outcome.stdout == f"{tmp_path / 'rm' / 'stage-0'}\n"
