"""Outputs made elsewhere: matched by name, cropped, refused where they do not fit."""

import re

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fgr.errors import UserError
from fgr.sr import Job, open_upscaler


def job(image, photo="photo", size=None, box=None):
    return Job(image, photo, size or image.shape[:2], box or (0, 0, len(image)))


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
        (break_truncated, "mirrored.PNG cannot be read: its pixels"),
        (break_text, "mirrored.PNG cannot be read: it is not an image"),
        (break_empty, "mirrored.PNG cannot be read: it is empty"),
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


def test_an_output_that_cannot_be_read_drops_its_samples_alone(outputs, capsys):
    from fgr.generate.maker import upscaled

    folder, photo = outputs
    break_text(folder)
    upscaler = open_upscaler(f"folder:{folder}", scale=4)
    jobs = [job(photo, name, photo.shape[:2], (0, 0, 64)) for name in ("mirrored", "trip to Rhône/tasse à café", "mirrored")]
    found = upscaled(upscaler, "folder:sr", jobs)
    assert [reason for reason, _ in found[::2]] == ["unreadable_output:folder:sr"] * 2
    assert np.array_equal(found[1][0], photo[:64, :64])
    assert "mirrored.PNG cannot be read: it is not an image" in capsys.readouterr().err
