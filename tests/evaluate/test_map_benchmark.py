"""Made-up images with a square of noise each, marked; the figures are known."""

import gzip
import io
import json

import numpy as np
import polars
import pytest
from PIL import Image
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.evaluate.map_benchmark import evaluate_on_map_benchmark
from fgr.evaluate.map_rivals import LocalMetric, Scene, ldl_map, read_map
from fgr.image_files import ImageFileError
from fgr.metrics.registry import open_metric

SIDE, SPOT, CLEAN = 96, (slice(16, 48), slice(16, 48)), (slice(64, 80), slice(64, 80))


def mask(*places):
    found = np.zeros((SIDE, SIDE), np.uint8)
    for place in places:
        found[place] = 255
    return found


def test_figures_by_the_command(marked, reward):
    out, table = marked / "out.json", marked / "regions.csv"
    command = ["evaluate", "--reward", str(reward), "--benchmark", str(marked / "t.csv"), "--maps", f"wasd={marked / 'theirs'}"]
    done = CliRunner().invoke(app, [*command, "--metrics", "psnr", "--device", "cpu", "--out", str(out), "--table", str(table)])
    assert done.exit_code == 0, done.output
    assert "8 marked regions of 4 images, 4 of them scaled" in done.stdout
    assert "Prominent regions found" in done.stdout
    assert "Generator x" in done.stdout
    found = json.loads(out.read_text())
    figures = found["figures"]
    assert {"reward", "wasd", "1 − SSIM", "LDL map", "psnr, local", "gradient energy"} <= set(figures)
    theirs = figures["wasd"]  # the marked squares themselves
    assert (theirs["iou"], theirs["precision"], theirs["recall"], theirs["pixel_ap"]) == (1, 1, 1, 1)
    assert (theirs["auc"], theirs["ap"], theirs["masks"], theirs["prominent"]) == (1, 1, 8, 4)
    pooled, shares = np.array([1, 0] * 4), np.array([0.9, 0.1, 0.8, 0.1, 0.7, 0.1, 0.6, 0.1])
    assert theirs["plcc"] == pytest.approx(np.corrcoef(pooled, shares)[0, 1])
    for name, least in (("1 − SSIM", 0.9), ("LDL map", 0.9), ("psnr, local", 0.7)):  # windows of 64 pixels are coarse
        assert figures[name]["auc"] == 1, name
        assert figures[name]["pixel_auc"] > least, name
    assert found["by_subset"]["a"]["wasd"]["masks"] == 4
    assert set(found["by_generator"]) == {"x", "y"}
    records = polars.read_csv(table)
    assert records["wasd"].to_list() == [1.0, 0.0] * 4


def test_what_cannot_be_used_is_named_and_counted(marked, write_image):
    write_image(marked / "gt" / "0.png", np.zeros((48, 48, 3), np.uint8))
    write_image(marked / "sr" / "1.png", np.zeros((SIDE, SIDE + 40, 3), np.uint8))
    write_image(marked / "gt" / "1.png", np.zeros((SIDE, SIDE + 40, 3), np.uint8))
    write_image(marked / "m" / "empty.png", mask())
    with (marked / "t.csv").open("a") as file:
        file.write("sr/2.png,m/empty.png,0.5,gt/2.png,a,y\n")
    done = CliRunner().invoke(app, ["evaluate", "--benchmark", str(marked / "t.csv"), "--device", "cpu"])
    assert done.exit_code == 1
    assert "the image and its reference" in done.stderr
    assert "96×96 and 48×48 pixels" in done.stderr
    assert "no scaled copy of the image's 136×96" in done.stderr
    assert "the mask is empty" in done.stderr
    assert "images or masks left out." in done.stderr
    assert "4 marked regions of 2 images" in done.stdout


def test_desra_masks_stand_beside_the_others(tmp_path, photos, write_image):
    for number, photo in enumerate(photos[:2]):
        for folder in ("GAN-SR", "MSE-SR"):
            write_image(tmp_path / "LDL" / folder / f"{number}.png", photo)
        write_image(tmp_path / "LDL" / "GT-Mask" / f"{number}.png", mask(SPOT, CLEAN))
        write_image(tmp_path / "LDL" / "DeSRA-Mask" / f"{number}.png", mask(SPOT)[5:-5, 5:-5])  # cut, as its code leaves it
    found, _ = evaluate_on_map_benchmark("desra", str(tmp_path), device="cpu")
    theirs = found["figures"]["DeSRA-Mask"]
    assert (theirs["precision"], theirs["recall"]) == (1, 0.5)
    assert theirs["iou"] == pytest.approx(32**2 / (32**2 + 16**2))
    assert "srcc" not in theirs
    assert found["protocol"]["references"] == "MSE-SR"


def test_a_folder_of_maps_has_one_for_each_image(marked):
    (marked / "theirs" / "3.png").unlink()
    found, _ = evaluate_on_map_benchmark(str(marked / "t.csv"), maps={"wasd": str(marked / "theirs")}, limit=2, device="cpu")
    assert found["protocol"]["images"] == 1
    assert "wasd has no map for sr/3.png" in next(iter(found["left_out"].values()))
    with pytest.raises(UserError, match="no folder"):
        evaluate_on_map_benchmark(str(marked / "t.csv"), maps={"wasd": str(marked / "absent")}, device="cpu")
    for name in ("0", "1", "2"):
        (marked / "theirs" / f"{name}.png").write_bytes(b"")
    with pytest.raises(UserError, match="No region"):
        evaluate_on_map_benchmark(str(marked / "t.csv"), maps={"wasd": str(marked / "theirs")}, device="cpu")


def test_maps_from_files(tmp_path):
    words = np.array([[0, 65535], [32768, 0]], np.uint16)
    Image.fromarray(words).save(tmp_path / "a.png")
    assert read_map(tmp_path / "a.png", (2, 2)) == pytest.approx(words / 65535)
    buffer = io.BytesIO()
    np.save(buffer, np.eye(2)[None])
    (tmp_path / "a.npy.gz").write_bytes(gzip.compress(buffer.getvalue()))
    assert read_map(tmp_path / "a.npy.gz", (2, 2)).tolist() == [[1, 0], [0, 1]]
    for bad in (np.full((2, 2), np.nan), np.zeros((2, 2, 2)), np.array([[{}]])):
        np.save(tmp_path / "b.npy", bad, allow_pickle=True)
        with pytest.raises(ImageFileError, match="not a map of finite numbers"):
            read_map(tmp_path / "b.npy", (2, 2))


def test_ldl_map_by_hand():
    reference, image = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)
    image[4, 4, 0] = 255
    found = ldl_map(reference, image)
    whole, local = 1 / 81 - 1 / 81**2, 1 / 49 - 1 / 49**2  # biased variances of one 1 among zeros
    assert found[4, 4] == pytest.approx((whole * 81 / 80) ** 0.2 * local * 49 / 48)
    assert found[0, 0] == 0


def test_a_local_metric_is_worst_where_the_image_is(photos):
    image = photos[0].copy()
    image[:32, :32] = 0
    map_ = LocalMetric(open_metric("ssim"), "cpu")(Scene(image, None, photos[0]))
    assert map_.shape == (SIDE, SIDE)
    assert map_[0, 0] == map_.max()
    assert map_[-1, -1] == pytest.approx(-1)  # SSIM of equal windows, negated
    assert LocalMetric(open_metric("ssim"), "cpu")(Scene(image, None)) is None
