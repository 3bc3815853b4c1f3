"""The rows of `fgr models`."""

import json

import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from fgr.cli import app
from fgr.sr import known_names
from fgr.sr.catalogue import catalogue


@pytest.fixture(autouse=True)
def _weights_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    torch.set_num_threads(1)


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def outputs(tmp_path):
    photo = data.coffee()
    save(photo, tmp_path / "sr" / "trip to Rhône" / "tasse à café.png")
    save(photo[:, ::-1], tmp_path / "sr" / "mirrored.PNG")
    return tmp_path / "sr", photo


def test_models_lists_what_there_is(outputs):
    folder, _ = outputs
    result = CliRunner().invoke(app, ["models", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert list(rows) == known_names()
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


def test_models_suggests_the_nearest_name():
    result = CliRunner().invoke(app, ["models", "realesrgan-animé"])
    assert "did you mean 'realesrgan-anime'" in str(result.exception)


def test_files_without_a_digest_on_record_are_said_to_be_not_pinned():
    from fgr.sr.zoo import ZOO

    for row in catalogue([]):
        release = ZOO.get(row["name"])
        free = [file for file in release.all_files if not file.sha256] if release else []
        assert bool(row["pinned"]) == bool(free), row["name"]
        if free:
            assert row["pinned"].startswith(f"not pinned: {len(free)} of {len(release.all_files)} files")


def test_what_only_the_hub_has_is_not_pinned_and_what_a_package_has_is():
    rows = catalogue(["spandrel:org/repository/net.pth", "timm:resnet18.a1_in1k", "timm:tf_efficientnet_lite0", "bicubic"])
    assert [bool(row["pinned"]) for row in rows] == [True, True, False, False]
    assert rows[0]["pinned"].startswith("not pinned: no sha256 is on record")
