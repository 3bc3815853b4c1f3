"""`fgr generate --plan`: figures and refusals before anything heavy is loaded."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fgr import hub_files
from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.preflight import forecast
from fgr.progress import duration
from fgr.sr import parse_name
from fgr.sr.costs import speed
from fgr.sr.readiness import lacking


@pytest.fixture
def photos(tmp_path):
    """Three photographs of 512×256 pixels."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((256, 512, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub_files, "cached", lambda *_: None)
    monkeypatch.setattr(hub_files, "fetch", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))


def demo(photos, *overrides, **options):
    return recipes.load(
        "demo", "generate", [f"source.path={photos}", *overrides], {"models": ["realesrgan", "bicubic"], **options}
    )


def test_the_figures_of_a_run(photos, tmp_path):
    expected = forecast(demo(photos, "source.crop=128", samples=40), tmp_path / "out", "cpu", 2)
    text = "\n".join(expected.lines)
    assert expected.refusal is None
    assert f"3 of {photos} are screened, at most 3 crops of each" in text
    assert "about 9 crops of 128 pixels, 4.4 samples of each" in text
    assert "samples      40: about train 20, validation 4, test 16" in text
    assert "SR models    2, about 20 samples each: realesrgan, bicubic" in text
    assert "disk         about 4 MB, and 0 MB while it runs" in text
    assert "on 2 CPU cores, by stored rates" in text
    assert "weights      all here" in text
    assert not (tmp_path / "out").exists()


def test_hours_of_diffusion_models_are_told_before_the_run(photos, tmp_path):
    """The paper's 30,000 samples of StableSR and of a network."""
    chosen = recipes.load(
        None, "generate", [f"source.path={photos}", "accept_license=[stablesr]"],
        {"models": ["realesrgan", "stablesr"], "samples": 30_000},
    )  # fmt: skip
    lines = forecast(chosen, tmp_path / "out", "cuda:0", 1).lines
    [at] = [i for i, line in enumerate(lines) if line.startswith("  time         about ")]
    assert " on 1 GPU, by stored rates" in lines[at]
    seconds = 199.2 / 17
    assert lines[at + 1].strip() == (
        f"stablesr alone {duration(15_000 * seconds)} on one GPU: 15,000 images at {seconds:.2g} s, computed from the operations "
        "of its networks"
    )


def test_few_crops_for_many_samples_are_a_warning(photos, tmp_path):
    few = forecast(demo(photos, "source.crop=256", samples=600), tmp_path / "out")
    assert "600 samples of 6 crops: each is degraded 50 times" in few.warnings[0]
    assert forecast(demo(photos, "source.crop=128", samples=40), tmp_path / "out").warnings == ()


def test_photographs_smaller_than_a_crop_are_a_warning(photos, tmp_path):
    small = forecast(demo(photos, "source.crop=512"), tmp_path / "out")
    assert small.warnings == ("none of the photographs that were measured is as large as a crop (source.crop=512 pixels).",)
    assert not any("references" in line for line in small.lines)


def test_all_that_stands_against_a_run_is_named_at_once_with_one_command_for_all_weights(tmp_path):
    names = ["hat", "stablesr", "realesrgan-x2", "nonsense", "swinir@passes=2", "realesr-general@denoise=0.5"]
    chosen = recipes.load(None, "generate", [f"source.path={tmp_path}/photos", "masks.segments=sem"], {"models": names})
    refused = forecast(chosen, tmp_path / "out").refusal
    said = str(refused)
    for part in (
        "There is no SR model 'nonsense'", "'stablesr' is under S-Lab-1.0", "which realesrgan-x2 (×2) cannot do",
        "masks.segments 'sem' is not known", f"source {tmp_path}/photos does not exist", "stablesr (7.4 GB)",
    ):  # fmt: skip
        assert part in said
    assert "Fetch them: fgr models hat stablesr swinir realesr-general realesr-general-wdn " in said
    assert "timm:vit_small_patch16_dinov3.lvd1689m --fetch" in said
    with pytest.raises(UserError) as error:
        run.generate(chosen, tmp_path / "out")
    assert str(error.value) == said
    assert not (tmp_path / "out").exists()


def test_too_few_photographs_for_the_splits_are_said_before_the_run(photos, tmp_path):
    (photos / "0.png").unlink()
    found = forecast(demo(photos), tmp_path / "out")
    assert found.refusal is None
    assert any("2 photographs cannot fill 3 splits" in line and "nothing in validation" in line for line in found.warnings)
    enough = forecast(demo(photos, "splits={train: 0.5, validation: 0.5, test: 0}"), tmp_path / "out").warnings
    assert not any("cannot fill" in line for line in enough)


def test_a_finished_dataset_and_another_recipes_folder_are_told(tiny, tiny_recipe):
    assert "whole" in forecast(tiny_recipe, tiny).lines[0]
    other = tiny_recipe.model_copy(update={"seed": 5})
    assert "seed: 0 there, 5 here" in str(forecast(other, tiny).refusal)


def test_what_models_lack_and_how_fast_they_are(tmp_path):
    assert lacking(parse_name("bicubic")) == lacking(parse_name("realesrgan")) == []
    with pytest.raises(UserError, match="no folder"):
        lacking(parse_name(f"folder:{tmp_path / 'x'}"))
    with pytest.raises(UserError, match="no weight file"):
        lacking(parse_name(f"spandrel:{tmp_path / 'x.pth'}"))
    assert lacking(parse_name("spandrel:org/net/x.pth")) == ["spandrel:org/net/x.pth"]
    assert speed(parse_name("realesrgan@passes=2")).cpu == 2 * speed(parse_name("realesrgan")).cpu
    assert speed(parse_name("sd-x4-upscaler@steps=25")).gpu == pytest.approx(speed(parse_name("sd-x4-upscaler")).gpu / 3)
    assert speed(parse_name("stablesr-turbo")).gpu < speed(parse_name("stablesr")).gpu


def test_a_large_limit_needs_no_more_photographs_than_its_samples():
    chosen = recipes.load(None, "generate", (), {"samples": 600})
    assert chosen.most_photographs == 200
    assert recipes.load(None, "generate").most_photographs == 6668
    assert recipes.load(None, "generate", ["source.limit=50"]).most_photographs == 50


def test_the_plan_of_thirty_thousand_samples_takes_seconds_and_loads_no_torch(photos, tmp_path):
    """Processor time: a busy machine is not the program's fault."""
    script = (
        "import sys; from fgr.cli import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'datasets', 'timm', 'diffusers'} & set(sys.modules)))"
    )
    arguments = [
        "generate",
        "fgr30k",
        "--source",
        str(photos),
        "--out",
        str(tmp_path / "out"),
        "--models",
        "realesrgan",
        "--plan",
    ]
    before = os.times()
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    after = os.times()
    assert "samples      30,000: about train 27,000" in done.stdout
    assert done.stdout.endswith("[]\n")
    assert after.children_user + after.children_system - before.children_user - before.children_system < 3
