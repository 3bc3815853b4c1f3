"""The files of a diffusion model: found in the weights folder or the Hub's cache, hashed once, weighed against the memory."""

import shutil

import pytest
from small_diffusion import image, restored

from fgr.errors import UserError
from fgr.sr import open_upscaler
from fgr.sr.catalogue import catalogue
from fgr.sr.diffusion import files

MODELS = ("sd-x4-upscaler", "ldm-sr")
FEW = {"steps": 2}


def opened(name):
    return open_upscaler(name, scale=4, diffusion=FEW)


def test_the_list_says_what_is_here_and_what_can_be_fetched(copied):
    assert [row["state"] for row in catalogue(list(MODELS))] == ["here", "here"]
    [row] = catalogue(["ldm-sr"])
    assert row["digest"] == opened("ldm-sr").digest
    (copied / "ldm-sr" / "unet" / "config.json").unlink()
    [row] = catalogue(["ldm-sr"])
    assert (row["state"], row["scale"], row["license"]) == ("fetchable", 4, "Apache-2.0")
    with pytest.raises(UserError, match=r"'ldm-sr' lacks weights here: there is no ldm-sr/unet/config.json.\n.*--fetch"):
        opened("ldm-sr")


def test_a_large_file_is_hashed_once(copied, monkeypatch):
    expected = files.locate("ldm-sr").digest
    monkeypatch.setattr(files, "LARGE", 0)
    assert files.locate("ldm-sr").digest == expected
    hashed = []
    monkeypatch.setattr(files, "file_digest", lambda file: hashed.append(file.name) or "0" * 64)
    assert files.locate("ldm-sr").digest == expected
    assert hashed == []
    (copied / "ldm-sr" / "vqvae" / "diffusion_pytorch_model.bin").write_bytes(b"another file")
    assert files.locate("ldm-sr").digest != expected
    assert hashed == ["diffusion_pytorch_model.bin"]


def test_weights_larger_than_the_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr("fgr.sr.memory.total_bytes", lambda: 1_000_000)
    with pytest.raises(UserError, match=r"'ldm-sr' are 0.0 GB; this machine has 0.0 GB of memory"):
        opened("ldm-sr")


def test_weights_in_the_hubs_cache_need_no_other_step(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--CompVis--ldm-super-resolution-4x-openimages"
    shutil.copytree(folder / "ldm-sr", repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert restored("ldm-sr", image(0), FEW).shape == (64, 64, 3)
    (tmp_path / "none" / "ldm-sr" / "unet").mkdir(parents=True)
    shutil.copy(folder / "ldm-sr" / "unet" / "config.json", tmp_path / "none" / "ldm-sr" / "unet")
    with pytest.raises(UserError, match="The files of ldm-sr are in several folders"):
        opened("ldm-sr")
