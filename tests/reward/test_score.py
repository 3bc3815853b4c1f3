import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fgr.cli import app
from fgr.image_files import read_image
from fgr.images import codec
from fgr.reward import FinPercepRM, load_reward_model, score, score_scale


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


def test_overlays_are_bright_where_the_map_is():
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
    expected, map_ = score.score(load_reward_model(trained), read_image(picture))
    assert line["score"] == pytest.approx(expected)
    assert line["map_worst"] == pytest.approx(score.worst(map_))
    assert codec.decode_rgb((maps / "picture.png-map.png").read_bytes()).shape == (70, 50 + score.BAR, 3)


def test_score_speaks_to_people_too(trained, picture):
    outcome = CliRunner().invoke(app, ["score", str(picture.parent), "--reward", str(trained / "stage-0"), "--device", "cpu"])
    assert outcome.stdout.endswith(f"worst 0.000  {picture}\n")
    assert "score: larger = better, on this model's own scale" in outcome.stderr
    assert "worst: mean of the map's worst 1 %" in outcome.stderr


@pytest.fixture
def folder(tmp_path):
    """Four images of more and more noise."""
    for number in range(4):
        noise = np.random.default_rng(number).normal(128, 1 + 20 * number, (64, 80, 3))
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_folder_becomes_a_ranked_table_csv_a_page_and_raw_maps(trained, folder, tmp_path):
    raw, table, page = tmp_path / "raw", tmp_path / "scores.csv", tmp_path / "scores.html"
    options = ["--raw-maps", str(raw), "--csv", str(table), "--html", str(page), "--device", "cpu"]
    outcome = CliRunner().invoke(app, ["score", str(folder), "--reward", str(trained), *options])
    assert outcome.exit_code == 0, outcome.output
    heading, *rows = outcome.stdout.splitlines()
    assert heading.split()[:2] == ["rank", "score"]
    model = load_reward_model(trained)
    expected = {str(file): score.score(model, read_image(file)) for file in sorted(folder.glob("*.png"))}
    order = sorted(expected, key=lambda name: -expected[name][0])
    assert [row.split()[-1] for row in rows] == order
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 4]
    assert "score: 4/4" in outcome.stderr
    with open(table) as file:
        written = list(csv.DictReader(file))
    assert [row["image"] for row in written] == order
    assert float(written[0]["score"]) == pytest.approx(expected[order[0]][0])
    stored = np.asarray(Image.open(raw / "3.png-map16.png"))
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, expected[str(folder / "3.png")][1], atol=codec.MAP_ERROR)
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg') == 8
    assert [text.index(f"map of {name}") for name in order] == sorted(text.index(f"map of {name}") for name in order)
    assert "http" not in text.replace("http-equiv", "")


def test_what_scores_mean_is_measured_when_a_model_is_trained(trained, folder):
    """The fixture's few steps may leave clean images below restored ones: then there is no scale."""
    rows = json.loads((trained / "examples.json").read_text())["rows"]
    assert score_scale.of_examples(rows) == score_scale.read(trained / "stage-1")
    good = [{"score_reference": 0.9 + 0.01 * number, "score_sr": 0.5} for number in range(5)]
    scale = score_scale.of_examples(good)
    assert scale == pytest.approx((0.92, 0.5, 0.902, 0.938, 5))
    assert [scale.calibrated(value) for value in (0.4, 0.5, 0.71, 0.92, 1.2)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert score_scale.of_examples(good[:3]) is None
    assert score_scale.of_examples([{**row, "score_sr": 2.0} for row in good]) is None


def test_calibrated_scores_are_shown_where_a_model_has_a_scale(trained, folder, tmp_path):
    copied = tmp_path / "model"
    shutil.copytree(trained / "stage-1", copied)
    score_scale.write(copied, score_scale.ScoreScale(5.0, -5.0, 4.0, 6.0, 12))
    outcome = CliRunner().invoke(app, ["score", str(folder), "--reward", str(copied), "--device", "cpu"])
    heading, *rows = outcome.stdout.splitlines()
    assert heading.split()[2] == "calibrated"
    for row in rows:
        _, value, calibrated, *_ = row.split()
        assert float(calibrated) == pytest.approx((float(value) + 5) / 10, abs=0.006)
    assert (
        "12 clean photographs that it was validated on have 5.000 (4.000 … 6.000), their restored versions -5.000"
        in outcome.stderr
    )
    (copied / score_scale.NAME).write_text("{}")
    outcome = CliRunner().invoke(app, ["score", str(folder / "0.png"), "--reward", str(copied), "--device", "cpu"])
    assert "  calibrated " not in outcome.stdout


def test_the_colour_bar_goes_from_clean_at_the_foot_to_worst_at_the_head():
    drawn = score.with_colour_bar(np.zeros((100, 30, 3), np.uint8)).astype(int)
    assert drawn.shape == (100, 30 + score.BAR, 3)
    bar = drawn[:, 30 + score.BAR // 3]
    assert bar[0].sum() > bar[50].sum() > bar[99].sum()


def test_score_goes_on_past_bad_files_and_names_them(trained, picture, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    shutil.copy(picture, tmp_path / "last.png")
    arguments = [str(tmp_path), str(tmp_path / "pipe.png"), "--reward", str(trained), "--json", "--device", "cpu"]
    outcome = CliRunner().invoke(app, ["score", *arguments])
    assert outcome.exit_code == 1
    scored = [json.loads(line)["image"] for line in outcome.stdout.splitlines()]
    assert scored == [str(path) for path in sorted({tmp_path / "last.png", *tmp_path.glob("pict*.png")})]
    assert f"fgr: {bad} is left out: {bad} cannot be read: it is not an image that can be read." in outcome.stderr
    assert "pipe.png is not a regular file" in outcome.stderr
    assert "fgr: 2 images left out." in outcome.stderr
    assert "left out 1 hidden, or in a hidden or system folder; 1 no regular file" in outcome.stderr
