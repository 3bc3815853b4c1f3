"""DiffBIR 2.1 against numbers recorded from its published implementation (XPixelGroup/DiffBIR, commit 3f8b530), run on the same
small weights, inputs and noise in float32. The keys are those of its own state dicts."""

import shutil

import numpy as np
import pytest
import torch
from small_diffusion import diffbir, image, recorded

from fgr import recipe as recipes
from fgr.dataset import verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.ddpm import Chain, alphas_cumprod, spaced
from fgr.sr.diffusion.diffbir import CLEANER, CONTROL, STABLE, DiffBIR, zero_terminal
from fgr.sr.diffusion.noise import generators

SMALL = {"steps": 4, "latent_tile": 16, "latent_overlap": 8, "negative_prompt": "blur"}


@pytest.fixture(scope="module")
def reference():
    return recorded("diffbir_reference.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    diffbir(folder)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    monkeypatch.setattr(DiffBIR, "least", 128)  # the small networks need not see 512 pixels
    torch.set_num_threads(1)
    return made


def job(pixels):
    return Job(pixels, "", pixels.shape[:2], (0, 0, 0))


def test_networks(reference, folder):
    restorer = open_upscaler("diffbir", scale=4, diffusion=SMALL).restorer
    generator = torch.Generator().manual_seed(0)
    latent, condition = torch.randn(1, 4, 16, 24, generator=generator), torch.randn(1, 4, 16, 24, generator=generator)
    time, shown = torch.tensor([521]), restorer._text[1:]
    with torch.inference_mode():
        reference.expect("text", shown[0, :4])
        down, middle = restorer._control(torch.cat([latent, condition], 1), time, shown, condition, return_dict=False)
        reference.expect("control_first", down[0][:, :16])
        reference.expect("control_last", middle)
        reference.expect("unet", restorer._call(latent, condition, time, 1))
        photo = torch.rand(1, 3, 128, 64, generator=generator)
        reference.expect("cleaned", restorer._cleaner(photo)[:, :, ::2, ::2])


def test_schedule_without_signal_at_its_end(reference):
    bar = zero_terminal(alphas_cumprod())
    assert bar[-1] == 0
    assert np.allclose(np.sqrt(bar), reference["sqrt_alphas"], atol=1e-6)
    for steps in (4, 50):
        chain = Chain(spaced(steps), bar)
        assert chain.times == reference[f"times_{steps}"].tolist()
        for i in (steps - 1, steps // 2, 0):
            now, velocity, noise, start, result = torch.from_numpy(reference[f"step_{steps}_{i}"])
            found = chain.start(now, i, velocity, "v")
            assert torch.allclose(found, start, atol=1e-4)
            assert torch.allclose(chain.step(now, i, found, noise), result, atol=1e-4)


@pytest.mark.parametrize(("key", "seed", "width"), [("square", 0, 32), ("tiled", 1, 48)])
def test_whole_outputs(reference, folder, key, seed, width):
    """From an image to an image: both stages, guidance away from a negative prompt, whole and in two latent tiles."""
    pixels = image(seed, 32, width)
    restorer = open_upscaler("diffbir", scale=4, diffusion=SMALL).restorer
    with torch.inference_mode():
        output = restorer(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, generators([pixels], 0))
    reference.expect(key, output[0].permute(1, 2, 0)[::2, ::2])


def test_odd_and_small_sizes_and_knobs(folder):
    outputs = set()
    for knobs in ({}, {"guidance": 1.0}, {"prompt": "cat"}, {"seed": 1}, {"color_fix": "adain"}):
        [restored] = open_upscaler("diffbir", scale=4, diffusion=SMALL | {"steps": 1} | knobs).upscale([job(image(0, 19, 27))])
        assert restored.shape == (76, 108, 3)
        outputs.add(restored.tobytes())
    assert len(outputs) == 5


def test_a_dataset_of_it_verifies(folder, tmp_path):
    knobs = {"models": ["diffbir"], "samples": 2, "source.crop": 64, "source.crops_per_photo": 1}
    knobs |= {f"inference.diffusion.{key}": value for key, value in (SMALL | {"steps": 1}).items()}
    limits = ("map.calibration_pairs=1", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    assert run.generate(recipes.load("demo", "generate", limits, knobs), tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))


@pytest.mark.parametrize(
    ("place", "content", "said"),
    [
        (CONTROL, CLEANER, "does not hold DiffBIR's ControlNet: there is no tensor input_blocks.1.0"),
        (STABLE, CONTROL, r"does not hold an OpenCLIP text encoder: there is no tensor cond_stage_model"),
        (CLEANER, CONTROL, r"holds no network that spandrel knows"),
    ],
)
def test_a_checkpoint_in_the_wrong_slot_is_refused_by_what_it_lacks(made, tmp_path, monkeypatch, place, content, said):
    shutil.copytree(made, tmp_path / "weights")
    shutil.copy(made / content, tmp_path / "weights" / place)
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(UserError, match=said):
        open_upscaler("diffbir", scale=4, diffusion=SMALL)


def test_tensors_that_the_control_net_does_not_know_are_named(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "weights")
    state = torch.load(made / CONTROL, weights_only=True)
    torch.save(state | {"input_hint.weight": torch.zeros(2)}, tmp_path / "weights" / CONTROL)
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(UserError, match=r"DiffBIR's ControlNet: tensors 1 unknown \(first input_hint.weight\)"):
        open_upscaler("diffbir", scale=4, diffusion=SMALL)
