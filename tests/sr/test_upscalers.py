"""Opening SR models by name: the baseline, scales, settings of names, and that settings belong to a row's identity."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.recipe.sampling import Sampling
from fgr.sr import Job, open_upscaler
from fgr.sr.catalogue import catalogue
from fgr.sr.zoo import ZOO


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


def test_another_scale_is_refused_before_weights_are_converted(tmp_path):
    with pytest.raises(UserError, match="upscales ×4, but ×2 was requested"):
        open_upscaler("realesrgan", scale=2)
    assert not (tmp_path / "weights").exists()


def test_bicubic_serves_any_scale_and_keeps_flat_colours():
    flat = np.full((5, 7, 3), (10, 200, 30), np.uint8)
    [restored] = open_upscaler("bicubic", scale=3).upscale([job(flat)])
    assert restored.shape == (15, 21, 3)
    assert (restored == (10, 200, 30)).all()


def compact(seed):
    """A small SRVGGNetCompact ×4 in the official layout."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "body.0.weight": (8, 3, 3, 3),
        "body.0.bias": (8,),
        "body.1.weight": (8,),
        "body.2.weight": (48, 8, 3, 3),
        "body.2.bias": (48,),
    }
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


@pytest.fixture
def general(tmp_path, monkeypatch):
    """realesr-general and its twin as small networks in a weights folder; returns their weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("FGR_WEIGHTS", str(folder))
    torch.set_num_threads(1)
    states = {}
    for seed, name in enumerate(("realesr-general", "realesr-general-wdn")):
        monkeypatch.setitem(ZOO, name, replace(ZOO[name], tags=()))
        states[name] = compact(seed)
        torch.save({"params": states[name]}, folder / ZOO[name].files[0].name)
    return states


def restored(name, image, **settings):
    return open_upscaler(name, scale=4, **settings).upscale([Job(image, "", (0, 0), (0, 0, 0))])[0]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def test_settings_of_a_name_reach_a_diffusion_model_that_has_them(monkeypatch):
    given = {}

    def opened(spec, **how):
        given.update(how)
        return SimpleNamespace(name=spec.text, settings=lambda: {"diffusion": {"steps": 100, "seed": 0}})

    monkeypatch.setattr("fgr.sr.diffusion.opening.open_diffusion", opened)
    assert (
        open_upscaler("ldm-sr@steps=4@tile=64", scale=4, tile=32, diffusion={"steps": 50, "seed": 3}).name
        == "ldm-sr@steps=4@tile=64"
    )
    assert (given["tile"], given["sampling"]) == (64, Sampling(steps=4, seed=3))
    with pytest.raises(UserError, match=r"'ldm-sr' has no setting cfw.\nOf diffusion it has: steps, seed"):
        open_upscaler("ldm-sr@cfw=0.5", scale=4)


def test_without_a_scale_a_network_has_its_own(general):
    assert open_upscaler("realesr-general", scale=None).scale == 4
    with pytest.raises(UserError, match="'bicubic' has no scale of its own"):
        open_upscaler("bicubic", scale=None)


def test_denoise_mixes_the_weights_of_two_networks(general, image, tmp_path):
    strong, weak = general.values()
    half = {name: (strong[name] + weak[name]) / 2 for name in strong}
    torch.save({"params": half}, tmp_path / "half.pth")
    torch.save({"params": strong}, tmp_path / "strong.pth")
    assert np.array_equal(restored("realesr-general@denoise=0.5", image), restored(f"spandrel:{tmp_path / 'half.pth'}", image))
    assert np.array_equal(restored("realesr-general", image), restored("realesr-general@denoise=0.5", image))
    assert np.array_equal(restored("realesr-general@denoise=1", image), restored(f"spandrel:{tmp_path / 'strong.pth'}", image))
    assert np.array_equal(restored("realesr-general@denoise=0", image), restored("realesr-general-wdn", image))
    digests = {
        open_upscaler(f"realesr-general{mark}", scale=4).digest for mark in ("@denoise=1", "@denoise=0.5", "@denoise=0.25")
    }
    assert len(digests) == 3
    opened = open_upscaler("realesr-general@denoise=0.25", scale=4)
    assert opened.name == "realesr-general@denoise=0.25"
    assert opened.settings()["denoise"] == 0.25
    assert open_upscaler("realesr-general", scale=4).settings()["denoise"] == 0.5
    assert re.match(r"0\.25 of realesr-general-x4v3\.pth.*; 0\.75 of realesr-general-wdn-x4v3\.pth", opened.weights)


def test_networks_that_do_not_fit_are_not_mixed(general, tmp_path):
    state = general["realesr-general-wdn"] | {"body.1.weight": torch.zeros(9)}
    torch.save({"params": state}, tmp_path / "weights" / ZOO["realesr-general-wdn"].files[0].name)
    with pytest.raises(UserError, match="hold different networks, which cannot be mixed"):
        open_upscaler("realesr-general@denoise=0.5", scale=4)


def test_a_second_pass_restores_the_output_made_small(image):
    once = restored("bicubic", image)
    small = once.reshape(40, 4, 48, 4, 3).mean(axis=(1, 3))
    again = np.asarray(Image.fromarray(np.rint(small).astype(np.uint8)).resize((192, 160), Image.Resampling.BICUBIC))
    assert np.abs(restored("bicubic@passes=2", image).astype(int) - again).max() <= 1  # ties are rounded otherwise
    opened = open_upscaler("bicubic@passes=2", scale=4)
    assert (opened.name, opened.settings()["passes"], opened.external) == ("bicubic@passes=2", 2, False)


def test_tile_and_precision_of_a_name_go_before_the_recipe_s(general, image):
    opened = open_upscaler("realesr-general@tile=32@overlap=2@precision=bf16", scale=4, tile=48, overlap=8)
    opened.upscale([Job(image, "", (0, 0), (0, 0, 0))])
    assert opened.settings() == {"tile": 32, "overlap": 2, "precision": "bf16", "denoise": 0.5}
    assert np.array_equal(restored("realesr-general@tile=32", image), restored("realesr-general", image, tile=32))


def test_models_of_a_mixture_need_both_files(general, tmp_path):
    name = "realesr-general@denoise=0.5"
    [row] = catalogue([name])
    assert (row["name"], row["state"]) == (name, "here")
    (tmp_path / "weights" / ZOO["realesr-general-wdn"].files[0].name).unlink()
    [row] = catalogue([name])
    assert (row["name"], row["state"]) == (name, "fetchable")


def test_settings_are_models_of_a_dataset_and_rows_replay(general, tmp_path):
    marks = ("", "@denoise=0.25", "@passes=2", "@tile=32@overlap=0", "@denoise=1")
    names = [f"realesr-general{mark}" for mark in marks]
    settings = {"models": names, "samples": 10, "source.crop": 256, "source.crops_per_photo": 1, "degradation": "bicubic"}
    limits = ("map.calibration_pairs=4", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    assert run.generate(recipes.load("demo", "generate", limits, settings), tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    assert [model["name"] for model in manifest.read(tmp_path / "out")["models"]] == names
    rows = list(tables.read_rows(tmp_path / "out", "samples", ["id", "source_id", "model", "inference", "sr"]))
    one_source = [row for row in rows if row["source_id"] == rows[0]["source_id"]]
    assert sorted(row["model"] for row in one_source) == sorted(names)
    assert len({row["sr"] for row in one_source}) == len({row["id"] for row in one_source}) == len(names)
    ran = {row["model"]: json.loads(row["inference"]) for row in rows}
    assert (ran[names[1]]["denoise"], ran[names[2]]["passes"], ran[names[3]]["tile"]) == (0.25, 2, 32)
    assert ran[names[0]]["denoise"] == 0.5
    assert list(replay(tmp_path / "out", 100, "cpu")) == [None] * len(rows)
    for shard in tables.shards(tmp_path / "out", "samples"):
        tables.write_table(shard, "samples", [_as_older_versions_wrote(row) for row in tables.read_shard(shard)])
    assert list(replay(tmp_path / "out", 100, "cpu")) == [None] * len(rows)


def _as_older_versions_wrote(row):
    """Without a strength in name and record, realesr-general ran with all of it; a strength in the record is the row's own."""
    inference = json.loads(row["inference"])
    if inference["denoise"] == 1:
        del inference["denoise"]
    return row | {"model": "realesr-general", "inference": json.dumps(inference)}
