"""One network in several settings: names, mixed weights, second passes, and that all of it belongs to a row's identity."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.recipe.sampling import Sampling
from fgr.sr import Job, license_of, open_upscaler
from fgr.sr.catalogue import catalogue
from fgr.sr.releases import RELEASES
from fgr.sr.settings import SAMPLING, expect_known, merged, parts, split


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
        monkeypatch.setitem(RELEASES, name, replace(RELEASES[name], tags=()))
        states[name] = compact(seed)
        torch.save({"params": states[name]}, folder / RELEASES[name].files[0].name)
    return states


def restored(name, image, **settings):
    return open_upscaler(name, scale=4, **settings).upscale([Job(image, "", (0, 0), (0, 0, 0))])[0]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def test_names_are_split():
    assert split("hat") == ("hat", {})
    assert split("hat@tile=64@precision=bf16") == ("hat", {"tile": 64, "precision": "bf16"})
    assert split("realesr-general@denoise=0.25@passes=2") == ("realesr-general", {"denoise": 0.25, "passes": 2})
    assert split("spandrel:a@home/x.pth@overlap=8") == ("spandrel:a@home/x.pth", {"overlap": 8})
    assert split("sd-x4-upscaler@steps=4@guidance=1.5@tile=64") == ("sd-x4-upscaler", {"steps": 4, "guidance": 1.5, "tile": 64})
    assert parts("realesr-general@denoise=0.25") == ["realesr-general", "realesr-general-wdn"]
    assert license_of("hat@tile=64") == license_of("hat")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hat@tiles=64", "unknown setting 'tiles' – did you mean 'tile'"),
        ("hat@tile=big", "sets tile to 'big'.\nIt must be a whole number"),
        ("hat@tile=-1", "sets tile to '-1'"),
        ("hat@precision=fp8", "It must be fp32, bf16 or fp16"),
        ("hat@passes=0", "from 1 to 4"),
        ("hat@tile=1@tile=2", "sets tile twice"),
        ("realesr-general@denoise=2", "a number from 0 to 1"),
        ("realesr-general@denoise=nan", "a number from 0 to 1"),
        ("hat@denoise=0.5", "'hat' has no setting denoise"),
        ("hat@steps=4", "'hat' has no setting steps.\nOnly diffusion models have: "),
        ("ldm-sr@steps=0", "a whole number from 1 to 1000"),
        ("folder:out@passes=2", "Outputs made elsewhere have no settings"),
        ("hatt@passes=2", "There is no SR model 'hatt' – did you mean 'hat'"),
    ],
)
def test_wrong_settings_are_sentences(name, says):
    with pytest.raises(UserError, match=re.escape(says)):
        open_upscaler(name, scale=4)


def test_every_knob_of_diffusion_models_can_be_set_in_a_name():
    assert set(SAMPLING) == set(Sampling.model_fields)


def test_sampling_of_a_name_goes_before_the_recipe_s():
    given, own = {"tile": 0, "denoise": None}, {"steps": 4, "tile": 64}
    assert merged(given, 1, {"steps": 50, "seed": 3}, own) == ({"tile": 64, "denoise": None}, 1, {"steps": 4, "seed": 3})


def test_a_setting_that_a_diffusion_model_lacks_is_refused():
    opened = SimpleNamespace(name="ldm-sr", settings=lambda: {"diffusion": {"steps": 100, "seed": 0}})
    expect_known(opened, {"steps": 4, "tile": 64})
    with pytest.raises(UserError, match=r"'ldm-sr' has no setting cfw.\nOf diffusion it has: steps, seed"):
        expect_known(opened, {"cfw": 0.5})


def test_denoise_mixes_the_weights_of_two_networks(general, image, tmp_path):
    strong, weak = general.values()
    half = {name: (strong[name] + weak[name]) / 2 for name in strong}
    torch.save({"params": half}, tmp_path / "half.pth")
    assert np.array_equal(restored("realesr-general@denoise=0.5", image), restored(f"spandrel:{tmp_path / 'half.pth'}", image))
    assert np.array_equal(restored("realesr-general@denoise=1", image), restored("realesr-general", image))
    assert np.array_equal(restored("realesr-general@denoise=0", image), restored("realesr-general-wdn", image))
    digests = {open_upscaler(f"realesr-general{mark}", scale=4).digest for mark in ("", "@denoise=0.5", "@denoise=0.25")}
    assert len(digests) == 3
    opened = open_upscaler("realesr-general@denoise=0.25", scale=4)
    assert opened.name == "realesr-general@denoise=0.25"
    assert opened.settings()["denoise"] == 0.25
    assert re.match(r"0\.25 of realesr-general-x4v3\.pth.*; 0\.75 of realesr-general-wdn-x4v3\.pth", opened.weights)


def test_networks_that_do_not_fit_are_not_mixed(general, tmp_path):
    state = general["realesr-general-wdn"] | {"body.1.weight": torch.zeros(9)}
    torch.save({"params": state}, tmp_path / "weights" / RELEASES["realesr-general-wdn"].files[0].name)
    with pytest.raises(UserError, match="do not hold one network: they cannot be mixed"):
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
    assert opened.settings() == {"tile": 32, "overlap": 2, "precision": "bf16"}
    assert np.array_equal(restored("realesr-general@tile=32", image), restored("realesr-general", image, tile=32))


def test_models_of_a_mixture_need_both_files(general, tmp_path):
    name = "realesr-general@denoise=0.5"
    [row] = catalogue([name])
    assert (row["name"], row["state"]) == (name, "here")
    (tmp_path / "weights" / RELEASES["realesr-general-wdn"].files[0].name).unlink()
    [row] = catalogue([name])
    assert (row["name"], row["state"]) == (name, "fetchable")


def test_settings_are_models_of_a_dataset_and_rows_replay(general, tmp_path):
    names = ["realesr-general", "realesr-general@denoise=0.5", "realesr-general@passes=2", "realesr-general@tile=32@overlap=0"]
    knobs = {"models": names, "samples": 8, "source.crop": 256, "source.crops_per_photo": 1, "degradation": "bicubic"}
    limits = ("map.calibration_pairs=4", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    assert run.generate(recipes.load("demo", "generate", limits, knobs), tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    assert [model["name"] for model in manifest.read(tmp_path / "out")["models"]] == names
    rows = list(tables.read_rows(tmp_path / "out", "samples", ["id", "source_id", "model", "inference", "sr"]))
    one_source = [row for row in rows if row["source_id"] == rows[0]["source_id"]]
    assert sorted(row["model"] for row in one_source) == sorted(names)
    assert len({row["sr"] for row in one_source}) == len({row["id"] for row in one_source}) == len(names)
    ran = {row["model"]: json.loads(row["inference"]) for row in rows}
    assert (ran[names[1]]["denoise"], ran[names[2]]["passes"], ran[names[3]]["tile"]) == (0.5, 2, 32)
    assert list(replay(tmp_path / "out", 100, "cpu")) == [None] * len(rows)
