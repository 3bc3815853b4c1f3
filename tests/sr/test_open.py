"""Upscalers by name, the baseline, outputs made elsewhere, and `fgr models`."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from fgr import recipe as recipes
from fgr.cli import app
from fgr.errors import UserError
from fgr.licenses import expect_accepted
from fgr.sr import Job, check_name, known, license_of, open_upscaler


@pytest.fixture(autouse=True)
def _weights_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    torch.set_num_threads(1)


def job(image, photo="photo", size=None, box=None):
    return Job(image, photo, size or image.shape[:2], box or (0, 0, len(image)))


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.fixture(scope="module")
def astronaut():
    photo = data.astronaut()
    return photo, np.asarray(Image.fromarray(photo).resize((128, 128), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("name", "expected"), [("bicubic", 25.38), ("realesr-animevideov3", 24.31)])
def test_a_photograph_is_restored_as_well_as_it_should_be(astronaut, name, expected):
    photo, small = astronaut
    upscaler = open_upscaler(name, scale=4)
    [restored] = upscaler.upscale([job(small)])
    assert restored.shape == photo.shape
    assert restored.dtype == np.uint8
    assert psnr(restored, photo) == pytest.approx(expected, abs=0.05)
    assert not upscaler.external
    assert re.fullmatch("[0-9a-f]{64}", upscaler.digest)


def test_known_names_open_or_say_what_they_lack():
    assert {"realesrgan", "realesr-animevideov3", "swinir", "hat", "dat", "bsrgan", "esrgan", "bicubic"} <= set(known())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("realesgran", "did you mean 'realesrgan'"),
        ("realesr-animevideo", "did you mean 'realesr-animevideov3'"),
        ("bicubik", "did you mean 'bicubic'"),
        ("foldr:out", "did you mean 'folder'"),
        ("realesrgan:out", "There is no SR model 'realesrgan:out'"),
        ("spandrel:", "names no file"),
        ("folder", "names no folder"),
        ("", "There is no SR model ''"),
    ],
)
def test_names_that_do_not_exist(name, says):
    with pytest.raises(UserError, match=re.escape(says)):
        open_upscaler(name, scale=4)


def test_another_scale_is_refused_before_weights_are_converted(tmp_path):
    with pytest.raises(UserError, match="upscales ×4, but ×2 is asked for"):
        open_upscaler("realesrgan", scale=2)
    assert not (tmp_path / "weights").exists()


def test_bicubic_serves_any_scale_and_keeps_flat_colours():
    flat = np.full((5, 7, 3), (10, 200, 30), np.uint8)
    [restored] = open_upscaler("bicubic", scale=3).upscale([job(flat)])
    assert restored.shape == (15, 21, 3)
    assert (restored == (10, 200, 30)).all()


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def outputs(tmp_path):
    photo = data.coffee()
    save(photo, tmp_path / "sr" / "trip to Rhône" / "tasse à café.png")
    save(photo[:, ::-1], tmp_path / "sr" / "mirrored.PNG")
    return tmp_path / "sr", photo


def test_outputs_made_elsewhere_are_matched_by_name_and_cropped(outputs):
    folder, photo = outputs
    upscaler = open_upscaler(f"folder:{folder}", scale=4)
    low = np.zeros((32, 32, 3), np.uint8)
    box = (100, 40, 128)
    first, second = upscaler.upscale(
        [job(low, "trip to Rhône/tasse à café", photo.shape[:2], box), job(low, "mirrored", photo.shape[:2], box)]
    )
    assert np.array_equal(first, photo[100:228, 40:168])
    assert np.array_equal(second, photo[:, ::-1][100:228, 40:168])
    assert upscaler.external


def test_other_outputs_have_another_digest(outputs):
    folder, photo = outputs
    before = open_upscaler(f"folder:{folder}", scale=4).digest
    assert open_upscaler(f"folder:{folder}", scale=4).digest == before
    changed = photo.copy()
    changed[0, 0, 0] ^= 1
    save(changed[:, ::-1], folder / "mirrored.PNG")
    assert open_upscaler(f"folder:{folder}", scale=4).digest != before


def test_an_output_is_turned_upright_as_its_photograph_is(tmp_path):
    photo = data.coffee()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    (tmp_path / "sr").mkdir()
    Image.fromarray(np.ascontiguousarray(np.rot90(photo))).save(tmp_path / "sr" / "a.png", exif=exif)
    [crop] = open_upscaler(f"folder:{tmp_path / 'sr'}", scale=4).upscale([job(photo, "a", photo.shape[:2], (10, 20, 64))])
    assert np.array_equal(crop, photo[10:74, 20:84])


def break_missing(folder):
    (folder / "mirrored.PNG").unlink()
    save(np.zeros((4, 4, 3), np.uint8), folder / "miroired.png")


def break_size(folder):
    save(np.zeros((400, 599, 3), np.uint8), folder / "mirrored.PNG")


def break_truncated(folder):
    path = folder / "mirrored.PNG"
    path.write_bytes(path.read_bytes()[:5000])


def break_text(folder):
    (folder / "mirrored.PNG").write_text("no image")


def break_empty(folder):
    (folder / "mirrored.PNG").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (break_missing, "no output for the photograph 'mirrored' – did you mean 'miroired'"),
        (break_size, "599×400 pixels, its photograph 600×400"),
        (break_truncated, "cannot be read as an image"),
        (break_text, "cannot be read as an image"),
        (break_empty, "cannot be read as an image"),
    ],
)
def test_bad_outputs(outputs, damage, says):
    folder, photo = outputs
    damage(folder)
    with pytest.raises(UserError, match=re.escape(says)):
        open_upscaler(f"folder:{folder}", scale=4).upscale([job(photo, "mirrored", photo.shape[:2], (0, 0, 64))])


def test_bad_folders(outputs, tmp_path):
    folder, photo = outputs
    save(photo, folder / "mirrored.jpg")
    with pytest.raises(UserError, match="two outputs for 'mirrored'"):
        open_upscaler(f"folder:{folder}", scale=4)
    with pytest.raises(UserError, match="There is no folder"):
        open_upscaler(f"folder:{tmp_path / 'absent'}", scale=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        open_upscaler(f"folder:{tmp_path / 'empty'}", scale=4)


def test_models_lists_what_there_is(outputs):
    folder, _ = outputs
    result = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == known()
    assert rows["realesrgan"]["state"] == "here"
    assert rows["realesrgan"]["digest"].startswith("713ee713b0353afa")
    assert (rows["realesr-animevideov3"]["scale"], rows["realesr-animevideov3"]["license"]) == (4, "BSD-3-Clause")
    assert rows["realesrgan"]["redistribute"] is True
    assert rows["spandrel:PATH_OR_HUB_FILE"]["redistribute"] is None
    assert rows["hat"]["state"] == "fetchable"
    text = CliRunner().invoke(app, ["models", "bicubic", f"folder:{folder}", "spandrel:none.pth"]).stdout
    assert "bicubic" in text
    assert "2 outputs made elsewhere" in text
    assert "absent: There is no weight file none.pth." in text


def test_the_main_recipe_names_models_that_exist_and_are_free():
    models = recipes.load("fgr30k", "generate").models
    for name in models:
        check_name(name)
    expect_accepted({name: license_of(name) for name in models}, [])


def test_models_suggests_the_nearest_name():
    result = CliRunner().invoke(app, ["models", "realesrgan-animé"])
    assert "did you mean 'realesrgan-anime'" in str(result.exception)
