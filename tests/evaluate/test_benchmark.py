import json

import numpy as np
import polars
import pytest
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.evaluate.benchmark import evaluate_on_benchmark
from fgr.metrics.registry import Metric
from fgr.people.scenes import part_of
from fgr.people.score_layouts import open_score_benchmark


@pytest.fixture
def noisy(tmp_path, photos, write_image):
    """Three photographs, each clean, with a little and with much noise; and the folder's path."""
    rng = np.random.default_rng(0)
    for number, photo in enumerate(photos[:3]):
        for level in (0, 12, 48):
            image = np.clip(photo + rng.normal(0, level, photo.shape), 0, 255).astype(np.uint8) if level else photo
            write_image(tmp_path / "img" / f"{number}-{level}.png", image)
    return tmp_path


def mos_table(folder, suffix="csv"):
    rows = [
        {"image": f"img/{n}-{level}.png", "mos": 90.0 - level - n, "group": f"g{n}", "reference": f"img/{n}-0.png"}
        for n in range(3)
        for level in (0, 12, 48)
    ]
    table, path = polars.DataFrame(rows), folder / f"mos.{suffix}"
    if suffix == "csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_scores(noisy, suffix):
    found = open_score_benchmark(mos_table(noisy, suffix))
    assert len(found.rows) == 9
    assert [row.mos for row in found.rows[:3]] == [90, 78, 42]
    assert found.rows[3].scene == "g1"
    assert found.rows[4].reference == noisy / "img" / "1-0.png"


def test_psnr_orders_noise_within_a_scene(noisy, reward):
    result, _ = evaluate_on_benchmark(str(mos_table(noisy)), reward=str(reward), metrics=["ssim"], device="cpu")
    assert result["kind"] == "scores"
    assert result["figures"]["ssim"]["accuracy"] == 1
    assert result["figures"]["ssim"]["srcc_within"] == 1
    of_reward = {"reward", "reward, mean map alone", "reward, worst of the map alone"}
    assert of_reward | {"ssim", "no-reference PSNR", "smoothness", "gradient energy"} == set(result["figures"])
    assert result["protocol"]["reward_model"]["encoder"]


def test_pairs_by_the_command(noisy, tmp_path):
    lines = [
        "left,right,choice,reference",
        *(f"img/{n}-12.png,img/{n}-48.png,{c},img/{n}-0.png" for n, c in enumerate(("left", "0.8", "tie"))),
    ]
    (noisy / "pairs.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "b.json"
    command = ["evaluate", "--benchmark", str(noisy / "pairs.csv"), "--metrics", "psnr", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "Agreement with people" in done.stdout
    written = json.loads(out.read_text())
    assert written["kind"] == "pairs"
    figures = written["figures"]["psnr"]
    assert (figures["accuracy"], figures["pairs"], figures["ties"]) == (1, 2, 1)


def test_sriqa_bench_as_it_comes_the_method_behind_the_last_underscore(tmp_path, photos, write_image):
    for method in ("Original", "HAT", "StableSR"):
        write_image(tmp_path / "images" / method / f"online_20_{method}.png", photos[0])
    (tmp_path / "MOS").mkdir()
    (tmp_path / "MOS" / "online_20.txt").write_text("online_20_StableSR.png,100.0\nonline_20_HAT.png 25.5\n")
    found = open_score_benchmark(tmp_path)
    assert [row.image.name for row in found.rows] == ["online_20_StableSR.png", "online_20_HAT.png"]
    assert [row.image.parent.name for row in found.rows] == ["StableSR", "HAT"]
    assert [(row.generator, row.family) for row in found.rows] == [("StableSR", "diffusion"), ("HAT", "classic")]
    assert [row.mos for row in found.rows] == [100, 25.5]
    assert [row.scene for row in found.rows] == ["online_20"] * 2
    assert found.rows[1].reference.name == "online_20_Original.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,quality\na.png,3\n", "has the columns image, quality"),
        ("image,mos\n", "no rows"),
        ("image,mos\nabsent.png,3\n", "names 1 images that do not exist"),
        ("image,mos\na.png,good\n", "'good' in the column mos is not a number"),
        ("left,right,choice\na.png,b.png,both\n", "'both' in the column choice is not a number"),
        ("left,right,choice\na.png,b.png,3\n", "neither left, right or tie"),
    ],
)
def test_mistakes_in_a_table_are_sentences(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_score_benchmark(tmp_path / "t.csv")


def test_what_is_no_benchmark_is_a_sentence(tmp_path, noisy):
    with pytest.raises(UserError, match="no benchmark at"):
        open_score_benchmark(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="not a known benchmark"):
        open_score_benchmark(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        open_score_benchmark(tmp_path / "x.parquet")
    (noisy / "plain.csv").write_text("image,mos\nimg/0-0.png,3\nimg/1-0.png,4\n")
    with pytest.raises(UserError, match="2 of 2 images of the benchmark have no references, which psnr need"):
        evaluate_on_benchmark(str(noisy / "plain.csv"), metrics=["psnr"], device="cpu")


def test_a_score_that_falls_with_quality_is_negated(noisy, monkeypatch):
    error = Metric("error", True, True, True, "here", lambda image, reference: (image - reference).square().mean((1, 2, 3)))
    monkeypatch.setattr("fgr.evaluate.benchmark.open_metrics", lambda names, options: [error])
    result, _ = evaluate_on_benchmark(str(mos_table(noisy)), metrics=["error"], device="cpu")
    assert result["figures"]["error"]["accuracy"] == 1


def test_images_that_cannot_be_read_are_left_out_with_their_pairs(tmp_path, photos, write_image):
    for number, photo in enumerate(photos):
        write_image(tmp_path / f"{number}.png", photo)
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "mos.csv").write_text("image,mos\n" + "".join(f"{number}.png,{number}\n" for number in range(4)))
    result, _ = evaluate_on_benchmark(str(tmp_path / "mos.csv"), device="cpu")
    assert result["protocol"]["images"] == 3
    assert list(result["left_out"]) == [str(tmp_path / "1.png")]
    (tmp_path / "pairs.csv").write_text("left,right,choice\n0.png,1.png,left\n2.png,3.png,right\n0.png,3.png,left\n")
    result, _ = evaluate_on_benchmark(str(tmp_path / "pairs.csv"), device="cpu")
    assert result["protocol"]["images"] == 3
    (tmp_path / "pairs.csv").write_text("left,right,choice\n0.png,1.png,left\n")
    with pytest.raises(UserError, match="can be used"):
        evaluate_on_benchmark(str(tmp_path / "pairs.csv"), device="cpu")


def test_opinions_may_be_whole_numbers_for_long(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "t.csv").write_text("image,mos\n" + "a.png,3\n" * 120 + "a.png,3.5\n")
    assert open_score_benchmark(tmp_path / "t.csv").rows[-1].mos == 3.5


def test_a_public_set_by_family_and_generator_beside_what_is_published(disrqad, reward, tmp_path):
    out, table = tmp_path / "o.json", tmp_path / "images.csv"
    command = ["evaluate", "--reward", str(reward), "--benchmark", "disrqad", "--data", str(disrqad), "--metrics", "psnr"]
    done = CliRunner().invoke(app, [*command, "--device", "cpu", "--out", str(out), "--table", str(table)])
    assert done.exit_code == 0, done.output
    assert "disrqad: 16 images of 4 scenes; 1 rows whose opinions are not public" in done.stdout
    assert "Q-ReAlign-pro (published)" in done.stdout
    found = json.loads(out.read_text())
    assert found["protocol"]["reward_is"].startswith("score and map together")
    assert set(found["by_family"]) == {"classic", "diffusion"}
    for figures in (found["figures"], *found["by_family"].values()):
        assert figures["psnr"]["accuracy"] == 1
        assert figures["psnr"]["best_of"]["share"] == 1
    assert found["figures"]["psnr"]["best_of"]["gain"] == pytest.approx(np.mean([4, 20, 10, 40]) / 10 - 0.4)
    assert set(found["by_generator"]) == {"SeeSR", "SUPIR", "HAT", "SwinIR"}
    assert found["by_generator"]["HAT"]["psnr"]["images"] == 4
    records = polars.read_csv(table)
    assert records["reward, mean map alone"].max() < 0
    assert records.height == 16


def test_a_part_of_the_scenes_and_images_of_two_scales(disrqad, write_image):
    whole, _ = evaluate_on_benchmark("disrqad", data=str(disrqad), metrics=["psnr"], device="cpu")
    scenes = [f"{number:05d}" for number in range(4)]
    for part in {part_of(scene) for scene in scenes}:
        found, records = evaluate_on_benchmark("disrqad", data=str(disrqad), split=part, device="cpu")
        assert {row["scene"] for row in records} == {scene for scene in scenes if part_of(scene) == part}
        assert found["protocol"]["scenes"] < whole["protocol"]["scenes"] == 4
    write_image(disrqad / "sr_x4" / "HAT_x4_00001_blur_x4.png", np.zeros((48, 48, 3), np.uint8))
    found, _ = evaluate_on_benchmark("disrqad", data=str(disrqad), metrics=["psnr"], device="cpu")
    assert "48×48 and 96×96 pixels" in found["left_out"][str(disrqad / "sr_x4" / "HAT_x4_00001_blur_x4.png")]
    found, _ = evaluate_on_benchmark("disrqad", data=str(disrqad), device="cpu")
    assert found["protocol"]["scenes_of_several_sizes"] == 1
    with pytest.raises(UserError, match="no split 'tests'"):
        evaluate_on_benchmark("disrqad", data=str(disrqad), split="tests", device="cpu")
