"""sd-x4-upscaler and ldm-sr on small random weights: what a row depends on, what is refused, and a whole dataset."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_diffusion import image, ldm_sr, sd_x4

from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.recipe.sampling import Sampling
from fgr.sr import Job, open_upscaler
from fgr.sr.catalogue import catalogue
from fgr.sr.diffusion import settings_of

NAMES = ("sd-x4-upscaler", "ldm-sr")
FEW = {"steps": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    sd_x4(folder / "sd-x4-upscaler")
    ldm_sr(folder / "ldm-sr")
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    torch.set_num_threads(1)
    return made


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A folder of weights to spoil."""
    shutil.copytree(made, tmp_path / "weights")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def jobs(*images):
    return [Job(one, "", one.shape[:2], (0, 0, 0)) for one in images]


def opened(name, knobs=FEW, **settings):
    return open_upscaler(name, scale=4, diffusion=knobs, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_the_same_bytes_alone_and_in_company(folder, name):
    first, second = image(0, 18, 13), image(1, 18, 13)
    upscaler = opened(name)
    [alone] = upscaler.upscale(jobs(first))
    assert alone.shape == (72, 52, 3)
    assert np.array_equal(upscaler.upscale(jobs(second, first))[1], alone)
    assert np.array_equal(opened(name).upscale(jobs(first))[0], alone)
    upscaler.batch = 2  # as on a GPU: the noise is the same, sums may be added in another order
    assert np.abs(upscaler.upscale(jobs(second, first))[1].astype(int) - alone).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_and_the_steps_belong_to_the_row(folder, name):
    [plain] = opened(name).upscale(jobs(image(0)))
    for knobs in ({"steps": 2, "seed": 1}, {"steps": 3}):
        upscaler = opened(name, knobs)
        [other] = upscaler.upscale(jobs(image(0)))
        assert not np.array_equal(other, plain)
        settings = json.loads(json.dumps(upscaler.settings()))
        assert settings["diffusion"].items() >= knobs.items()
        assert np.array_equal(open_upscaler(name, scale=4, **settings).upscale(jobs(image(0)))[0], other)


def test_text_guidance_and_noise_level_reach_the_upscaler(folder):
    outputs = [
        opened("sd-x4-upscaler", FEW | knobs).upscale(jobs(image(0)))[0].tobytes()
        for knobs in ({}, {"prompt": "cat"}, {"negative_prompt": "dog"}, {"guidance": 1.0}, {"noise_level": 100})
    ]
    assert len(set(outputs)) == len(outputs)


def test_a_models_settings_are_those_that_it_has_defaults_for():
    given = Sampling(cfw=0.3, steps=7)
    assert settings_of(given, {"steps": 75, "prompt": ""}) == {"steps": 7, "prompt": "", "seed": 0}
    assert settings_of(Sampling(), {"guidance": 9.0}) == {"guidance": 9.0, "seed": 0}


def test_memory_that_runs_out_gives_smaller_batches_then_tiles_then_a_sentence(folder):
    upscaler = opened("ldm-sr")
    upscaler.batch = 2
    tried, limit = [], 64 * 64

    def check(module, inputs):
        count, _, height, width = inputs[0].shape
        tried.append((count, height, width))
        if count * height * width > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    upscaler.restorer._pipeline.unet.register_forward_pre_hook(check)
    results = upscaler.upscale(jobs(image(0, 128, 64), image(1, 128, 64)))
    assert [result.shape for result in results] == [(512, 256, 3)] * 2
    assert list(dict.fromkeys(tried)) == [(2, 128, 64), (1, 128, 64), (1, 64, 64)]
    assert upscaler.settings()["tile"] == 64
    limit = 100
    with pytest.raises(UserError, match="memory of cpu does not suffice for ldm-sr, even with tiles of 64 pixels"):
        upscaler.upscale(jobs(image(0, 128, 64)))


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_of_it_verifies_and_replays(folder, tmp_path, name):
    knobs = {"models": [name], "samples": 2, "source.crop": 64, "source.crops_per_photo": 1, "inference.diffusion.steps": 2}
    limits = ("map.calibration_pairs=2", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    assert run.generate(recipes.load("demo", "generate", limits, knobs), tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    assert list(replay(tmp_path / "out", 2, "cpu")) == [None, None]
    [model] = manifest.read(tmp_path / "out")["models"]
    assert model["weights"].startswith(f"{name}/unet/diffusion_pytorch_model.")
    for row in tables.read_rows(tmp_path / "out", "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == 2


def test_the_list_says_what_is_here_and_what_can_be_fetched(folder, copied):
    assert [row["state"] for row in catalogue(list(NAMES))] == ["here", "here"]
    [row] = catalogue(["ldm-sr"])
    assert row["digest"] == opened("ldm-sr").digest
    (copied / "ldm-sr" / "unet" / "config.json").unlink()
    [row] = catalogue(["ldm-sr"])
    assert (row["state"], row["scale"], row["license"]) == ("fetchable", 4, "Apache-2.0")
    with pytest.raises(UserError, match=r"'ldm-sr' lacks weights here: there is no ldm-sr/unet/config.json.\n.*--fetch"):
        opened("ldm-sr")


def test_a_large_file_is_hashed_once(folder, copied, monkeypatch):
    from fgr.sr.diffusion import files

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


def spoiled(folder, what):
    """Damage the small upscaler."""
    unet = folder / "sd-x4-upscaler" / "unet"
    if what == "cut off":
        file = unet / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    elif what == "no architecture":
        (unet / "config.json").write_text("{}")
    elif what == "tensors missing":
        from safetensors.torch import load_file, save_file

        state = load_file(unet / "diffusion_pytorch_model.safetensors")
        del state["conv_out.weight"]
        save_file(state, unet / "diffusion_pytorch_model.safetensors")
    else:
        shutil.rmtree(unet)
        shutil.copytree(folder / "sd-x4-upscaler" / "vae", unet)


@pytest.mark.parametrize("what", ["cut off", "no architecture", "tensors missing", "another module"])
def test_weights_that_are_damaged_or_in_the_wrong_place_are_refused_by_place(copied, what):
    spoiled(copied, what)
    with pytest.raises(UserError, match=r"sd-x4-upscaler/unet (holds no UNet2DConditionModel|does not match its config.json)"):
        opened("sd-x4-upscaler")


def test_weights_larger_than_the_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr("fgr.sr.memory.total_bytes", lambda: 1_000_000)
    with pytest.raises(UserError, match=r"'ldm-sr' are 0.0 GB; this machine has 0.0 GB of memory"):
        opened("ldm-sr")


def test_without_the_extra_the_install_command_is_named(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'ldm-sr' needs the package diffusers.*\n.*fgr\[diffusion\]"):
        opened("ldm-sr")


def test_steps_of_a_name_are_a_model_of_their_own(folder):
    named = open_upscaler("ldm-sr@steps=3", scale=4, diffusion={"steps": 2, "seed": 5})
    assert named.name == "ldm-sr@steps=3"
    assert named.settings()["diffusion"].items() >= {"steps": 3, "seed": 5}.items()
    assert np.array_equal(named.upscale(jobs(image(0)))[0], opened("ldm-sr", {"steps": 3, "seed": 5}).upscale(jobs(image(0)))[0])
    with pytest.raises(UserError, match="'ldm-sr' has no setting cfw"):
        open_upscaler("ldm-sr@cfw=0.5", scale=4)


def test_weights_in_the_hubs_cache_need_no_other_step(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--CompVis--ldm-super-resolution-4x-openimages"
    shutil.copytree(made / "ldm-sr", repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    [restored] = opened("ldm-sr").upscale(jobs(image(0)))
    assert restored.shape == (64, 64, 3)
    (tmp_path / "none" / "ldm-sr" / "unet").mkdir(parents=True)
    shutil.copy(made / "ldm-sr" / "unet" / "config.json", tmp_path / "none" / "ldm-sr" / "unet")
    with pytest.raises(UserError, match="The files of ldm-sr lie in several folders"):
        opened("ldm-sr")
