"""SeeSR against numbers recorded from its published implementation (cswry/SeeSR, commit 8edecc7), run on the same small weights,
inputs and noise in float32. The keys are those of its own state dicts."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_diffusion import image, recorded, seesr

from fgr import recipe as recipes
from fgr.dataset import verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.noise import generators
from fgr.sr.diffusion.seesr import DAPE, RAM, SeeSR

SMALL = {"steps": 4, "prompt": "cat", "negative_prompt": "blur"}


@pytest.fixture(scope="module")
def reference():
    return recorded("seesr_reference.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    seesr(folder)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    monkeypatch.setattr(SeeSR, "least", 128)  # the small networks need not see 512 pixels
    torch.set_num_threads(1)
    return made


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A folder of weights to spoil."""
    shutil.copytree(made, tmp_path / "weights")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def job(pixels):
    return Job(pixels, "", pixels.shape[:2], (0, 0, 0))


def test_networks(reference, folder):
    restorer = open_upscaler("seesr", scale=4, diffusion=SMALL).restorer
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        seen = restorer._tokens(torch.rand(1, 3, 40, 56, generator=generator))
        reference.expect("tokens", seen[:, ::6, ::4])
        reference.expect("text", restorer._text[1, :4])
        latent, hint = torch.randn(1, 4, 16, 24, generator=generator), torch.rand(1, 3, 128, 192, generator=generator)
        restorer._seen.tokens = seen
        time, words = torch.tensor([521]), restorer._text[1:]
        down, middle = restorer._control(latent, time, words, hint, return_dict=False)
        reference.expect("control_first", down[0][:, :16])
        reference.expect("control_last", middle)
        reference.expect("unet", restorer._call(time, latent, hint, 1))


@pytest.mark.parametrize(
    ("key", "seed", "width", "knobs"), [("square", 0, 32, {}), ("tiled", 1, 48, {"steps": 2, "latent_tile": 16})]
)
def test_whole_outputs(reference, folder, key, seed, width, knobs):
    """From an image to an image: tokens, both networks, guidance, start from the input; whole and in latent tiles."""
    pixels = image(seed, 32, width)
    restorer = open_upscaler("seesr", scale=4, diffusion=SMALL | knobs).restorer
    with torch.inference_mode():
        output = restorer(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, generators([pixels], 0))
    reference.expect(key, output[0].permute(1, 2, 0)[::2, ::2])


def test_small_and_odd_sizes_and_knobs(folder):
    outputs = set()
    for knobs in ({}, {"guidance": 1.0}, {"prompt": "dog"}, {"seed": 1}):
        [restored] = open_upscaler("seesr", scale=4, diffusion=SMALL | {"steps": 1} | knobs).upscale([job(image(0, 19, 33))])
        assert restored.shape == (76, 132, 3)
        outputs.add(restored.tobytes())
    assert len(outputs) == 4


def test_a_dataset_of_it_verifies(folder, tmp_path):
    knobs = {"models": ["seesr"], "samples": 2, "source.crop": 64, "source.crops_per_photo": 1}
    knobs |= {f"inference.diffusion.{key}": value for key, value in (SMALL | {"steps": 1}).items()}
    limits = ("map.calibration_pairs=1", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    assert run.generate(recipes.load("demo", "generate", limits, knobs), tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))


def test_files_in_the_wrong_place_or_not_whole_are_refused(copied):
    unet = copied / "seesr" / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(unet)
    save_file({name: one for name, one in state.items() if "image_attentions" not in name}, unet)
    with pytest.raises(UserError, match=r"safetensors does not hold SeeSR's unet: it has no image_attentions"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
    shutil.copy(copied / RAM, copied / DAPE)
    with pytest.raises(UserError, match=r"DAPE.pth does not hold DAPE's adapters: there is no tensor visual_encoder.*lora_A"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
    shutil.copy(unet, copied / "ram_swin_large_14m.safetensors")
    with pytest.raises(UserError, match=r"does not hold RAM's image encoder: there is no tensor"):
        open_upscaler("seesr", scale=4, diffusion=SMALL)
