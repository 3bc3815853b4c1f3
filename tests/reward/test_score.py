import json
import os
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fgr.cli import app
from fgr.image_files import read_image
from fgr.images import codec
from fgr.reward import FinPercepRM, load_reward_model, score


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
    assert codec.decode_rgb((maps / "picture.png-map.png").read_bytes()).shape == (70, 50, 3)


def test_score_speaks_to_people_too(trained, picture):
    outcome = CliRunner().invoke(app, ["score", str(picture.parent), "--reward", str(trained / "stage-0"), "--device", "cpu"])
    assert outcome.stdout.endswith(f"worst 0.000  {picture}\n")


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
