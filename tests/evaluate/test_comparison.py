import json
import shutil

import numpy as np
import polars
import pytest
from PIL import Image
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.evaluate.comparison import evaluate_systems, folder_name, write_table
from fgr.evaluate.systems import SrModel
from fgr.evaluate.testset import open_test_set


def test_bicubic_on_pairs_by_another_road(pairs, photos, tmp_path):
    result, records = evaluate_systems(["bicubic"], str(pairs), border=2, device="cpu", keep=tmp_path)
    assert result["protocol"]["border"] == 2
    assert result["protocol"]["test_set"]["scale"] == 2
    for number, record in enumerate(records):
        low = Image.fromarray(photos[number]).resize((48, 48), Image.Resampling.BOX)
        restored = np.asarray(low.resize((96, 96), Image.Resampling.BICUBIC)).astype(float)
        error = np.square(restored - photos[number].astype(float))[2:-2, 2:-2].mean()
        assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert result["systems"]["bicubic"]["psnr"]["mean"] == pytest.approx(np.mean([record["psnr"] for record in records]))
    kept = np.asarray(Image.open(tmp_path / "bicubic" / "img0.png"))
    assert kept.shape == (96, 96, 3)
    assert np.asarray(Image.open(tmp_path / "inputs" / "img0.png")).shape == (48, 48, 3)


def test_kept_outputs_give_the_same_figures_and_lose_to_the_reference(pairs, tmp_path):
    _, first = evaluate_systems(["bicubic"], str(pairs), device="cpu", keep=tmp_path)
    again = [str(tmp_path / "bicubic"), str(pairs / "gt")]
    result, records = evaluate_systems(again, str(pairs), device="cpu", metrics=["psnr", "ssim"])
    assert [r["ssim"] for r in records if r["system"] == again[0]] == [r["ssim"] for r in first]
    compared = result["compared"][again[1]]
    assert compared["ssim"]["win_rate"] == 1
    assert compared["ssim"]["difference"] == pytest.approx(1 - np.mean([r["ssim"] for r in first]))
    assert result["systems"][again[1]]["psnr"]["left_out"] == 4  # infinite: the references themselves
    assert result["protocol"]["systems"][again[0]]["kind"] == "outputs made elsewhere"


def test_a_dataset_is_replayed_and_agrees_with_its_own_outputs(tiny):
    from fgr.dataset import tables
    from fgr.images import codec

    result, records = evaluate_systems(
        ["bicubic", "realesr-animevideov3"], str(tiny), split="test", device="cpu", metrics=["psnr"]
    )
    rows = [row for row in tables.read_rows(tiny, "samples", split="test") if row["model"] == "bicubic"]
    expected = set()
    for row in rows:
        sr, reference = (codec.decode_rgb(row[name]).astype(float) for name in ("sr", "reference"))
        expected.add(round(10 * np.log10(255**2 / np.square(sr - reference).mean()), 2))
    found = {round(record["psnr"], 2) for record in records if record["system"] == "bicubic"}
    assert expected <= found
    assert result["photos"] <= result["images"]
    assert result["protocol"]["test_set"]["inputs"] == "replayed from the rows' degradation"


def test_what_cannot_be_compared_is_a_sentence(pairs, tmp_path, write_image, photos):
    with pytest.raises(UserError, match="named twice"):
        evaluate_systems(["bicubic", "bicubic"], str(pairs), device="cpu")
    with pytest.raises(UserError, match="upscales ×4, but ×2"):
        evaluate_systems(["realesrgan"], str(pairs), device="cpu")
    shutil.copytree(pairs / "lr", tmp_path / "small")
    with pytest.raises(UserError, match="never resized"):
        evaluate_systems([str(tmp_path / "small")], str(pairs), device="cpu")
    write_image(tmp_path / "inputs" / "lq" / "a.png", photos[0])
    with pytest.raises(UserError, match="nothing to measure"):
        evaluate_systems(["bicubic"], str(tmp_path / "inputs"), device="cpu")
    with pytest.raises(UserError, match="no references, which psnr need"):
        evaluate_systems(["bicubic"], str(tmp_path / "inputs"), device="cpu", metrics=["psnr"])


@pytest.mark.parametrize(("place", "layout"), [("gt", "auto"), (".", "references")])
def test_references_alone_are_reduced_for_sr_models(tmp_path, photos, write_image, place, layout):
    """Beside a photograph with odd EXIF and the files that systems leave: the command tells what it did, and keeps the inputs."""
    folder = tmp_path / "set" / place
    write_image(folder / "b.png", photos[0][:94, :95])
    exif = Image.Exif()
    exif[0x0112], exif[0x9286] = 1, b"\xff" * 9
    Image.fromarray(photos[1]).save(folder / "a.jpg", quality=95, exif=exif.tobytes()[:-7])
    write_image(folder / "tiny.png", photos[2][:3, :9])
    for name in ("._b.png", "Thumbs.db"):
        (folder / name).write_bytes(b"\0" * 9)
    command = ["evaluate", "bicubic", "--data", str(tmp_path / "set"), "--metrics", "psnr", "--device", "cpu", "--layout", layout]
    done = CliRunner().invoke(app, [*command, "--keep", str(tmp_path / "kept")])
    assert "2 images of 2 photographs; inputs made from the references by bicubic reduction ×4: the set holds none" in done.stdout
    assert done.stderr.count("left out") == 3  # files of the folder, the tiny image, the count of images
    assert "'tiny' is too small" in done.stderr
    assert done.exit_code == 1
    low = np.asarray(Image.fromarray(photos[0][:92, :92]).resize((23, 23), Image.Resampling.BICUBIC))
    assert (np.asarray(Image.open(tmp_path / "kept" / "inputs" / "b.png")) == low).all()
    assert np.asarray(Image.open(tmp_path / "kept" / "bicubic" / "b.png")).shape == (92, 92, 3)


def test_outputs_made_elsewhere_are_compared_with_whole_references(tmp_path, photos, write_image):
    for place in ("gt", "theirs"):
        write_image(tmp_path / place / "a.png", photos[0][:94, :95])
    result, _ = evaluate_systems([str(tmp_path / "theirs")], str(tmp_path), metrics=["ssim"], device="cpu")
    assert result["systems"][str(tmp_path / "theirs")]["ssim"]["mean"] == 1
    assert "inputs" not in result["protocol"]["test_set"]
    with pytest.raises(UserError, match="no low-resolution input for 'a', which bicubic needs"):
        SrModel("bicubic", None).restore(open_test_set(str(tmp_path)).items[0])


def test_a_reward_model_adds_its_score_and_the_severity_of_its_map(pairs, reward, tmp_path, photos):
    from fgr.reward.pretrained import load_reward_model
    from fgr.reward.score import score, worst

    result, records = evaluate_systems([str(pairs / "gt")], str(pairs), metrics=["psnr"], reward=str(reward), device="cpu")
    value, map_ = score(load_reward_model(reward), photos[1])
    assert records[1]["score"] == pytest.approx(value)
    assert records[1]["map_mean"] == pytest.approx(float(map_.mean()))
    assert records[1]["map_worst"] == pytest.approx(worst(map_))
    assert set(result["lower_is_better"]) == {"map_mean", "map_worst"}
    assert result["protocol"]["reward"] == str(reward)


def test_the_command_prints_and_writes_everything(pairs, tmp_path):
    out, table = tmp_path / "e.json", tmp_path / "e.parquet"
    command = [
        "evaluate",
        "bicubic",
        str(pairs / "gt"),
        "--data",
        str(pairs),
        "--luma",
        "--border",
        "2",
        "--metrics",
        "psnr,ssim",
    ]
    done = CliRunner().invoke(app, [*command, "--out", str(out), "--table", str(table), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "4 images of 4 photographs" in done.stdout
    assert "100 %" in done.stdout
    written = json.loads(out.read_text())
    assert written["protocol"]["channel"] == "Y"
    assert written["against"] == "bicubic"
    rows = polars.read_parquet(table)
    assert rows.columns == ["image", "photo", "system", "psnr", "ssim"]
    assert rows.height == 8
    mean = rows.filter(polars.col("system") == "bicubic")["psnr"].mean()
    assert written["systems"]["bicubic"]["psnr"]["mean"] == pytest.approx(mean)
    write_table(tmp_path / "e.csv", rows.to_dicts())
    assert polars.read_csv(tmp_path / "e.csv").height == 8


@pytest.mark.parametrize("arguments", [[], ["bicubic"], ["--reward", "x"]])
def test_half_a_command_is_a_usage_error(arguments):
    assert CliRunner().invoke(app, ["evaluate", *arguments]).exit_code == 2


def test_a_systems_name_makes_a_folder_name():
    assert folder_name("spandrel:/a b/c.pth") == "spandrel-a-b-c.pth"
    assert folder_name("../..") == "system"


def test_a_bad_image_is_left_out_for_every_system_and_named(pairs, tmp_path, photos, write_image):
    folder = shutil.copytree(pairs, tmp_path / "set")
    (folder / "gt" / "img0.png").write_bytes(b"no image")
    low = next((folder / "lr").glob("img1*"))
    low.write_bytes(low.read_bytes()[:60])
    for number, photo in enumerate(photos):
        write_image(tmp_path / "theirs" / f"img{number}.png", photo if number != 2 else photo[:48])
    result, found = evaluate_systems(["bicubic", str(tmp_path / "theirs")], str(folder), metrics=["psnr"], device="cpu")
    assert result["images"] == 1
    assert [record["image"] for record in found] == ["img3", "img3"]
    assert sorted(result["left_out"]) == ["img0", "img1", "img2"]
    assert "img0.png cannot be read" in result["left_out"]["img0"]
    assert "48" in result["left_out"]["img2"]


def test_the_command_names_what_it_left_out_and_exits_with_1(pairs, tmp_path):
    folder = shutil.copytree(pairs, tmp_path / "set")
    (folder / "gt" / "img0.png").write_bytes(b"no image")
    command = [
        "evaluate",
        "bicubic",
        "--data",
        str(folder),
        "--metrics",
        "psnr",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out.json"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "3 images of 3 photographs" in done.stdout
    assert "fgr: img0 is left out:" in done.stderr
    assert "fgr: 1 image left out." in done.stderr
    assert list(json.loads((tmp_path / "out.json").read_text())["left_out"]) == ["img0"]
