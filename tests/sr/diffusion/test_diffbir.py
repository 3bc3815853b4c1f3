"""DiffBIR 2.1 and 2 against numbers recorded from its published implementation (XPixelGroup/DiffBIR, commit 3f8b530), run on the
same small weights, inputs and noise in float32. The keys are those of its own state dicts."""

import shutil

import numpy as np
import pytest
import torch
from small_diffusion import image, restored

from fgr.errors import UserError
from fgr.sr import open_upscaler
from fgr.sr.diffusion.diffbir import CLEANER, CLEANER_2, CONTROL, STABLE, DiffBIR, DiffBIR2
from fgr.sr.diffusion.samplers import AncestralSampler, MultistepSampler, alphas_cumprod, spaced, zero_terminal
from fgr.sr.diffusion.stepwise import Start, generators

MODELS, RECORDED = ("diffbir", "diffbir-v2"), "diffbir_reference.npz"
SMALL = {"steps": 4, "prompt": "", "negative_prompt": "blur"}


def test_networks(reference, model):
    opened = model(guidance=1.0)
    generator = torch.Generator().manual_seed(0)
    latent, known = torch.randn(1, 4, 16, 24, generator=generator), torch.randn(1, 4, 16, 24, generator=generator)
    time = torch.tensor([521])
    with torch.inference_mode():
        start = opened.begin(torch.rand(1, 3, 32, 32), generators([image(0)], 0))
        text = start.condition["text"]
        reference.expect("text", text[0, :4])
        down, middle = opened.networks["control"](torch.cat([latent, known], 1), time, text, known, return_dict=False)
        reference.expect("control_first", down[0][:, :16])
        reference.expect("control_last", middle)
        reference.expect("unet", opened.predict(latent, time, Start(latent, {"known": known, "text": text, "without": None})))
        photo = torch.rand(1, 3, 128, 64, generator=generator)
        reference.expect("cleaned", opened.networks["cleaner"](photo)[:, :, ::2, ::2])


def test_schedule_without_signal_at_its_end(reference):
    bar = zero_terminal(alphas_cumprod())
    assert bar[-1] == 0
    assert np.allclose(np.sqrt(bar), reference["sqrt_alphas"], atol=1e-6)
    for steps in (4, 50):
        sampler = AncestralSampler(spaced(steps), bar, "v_prediction")
        assert sampler.times[::-1] == reference[f"times_{steps}"].tolist()
        for i in (steps - 1, steps // 2, 0):
            now, velocity, noise, start, result = torch.from_numpy(reference[f"step_{steps}_{i}"])
            step = sampler.step(now, velocity, steps - 1 - i)
            assert torch.allclose(step.clean, start, atol=1e-4)
            assert torch.allclose(step.drawn(noise), result, atol=1e-4)


@pytest.mark.parametrize("steps", [4, 10])
def test_multistep_sampler(reference, steps):
    """A whole run of DPM++ 3M SDE against a network that is a formula."""
    sampler, earlier = MultistepSampler(steps, zero_terminal(alphas_cumprod()), "v_prediction"), ()
    assert sampler.times == reference[f"multistep_times_{steps}"].tolist()
    generator = torch.Generator().manual_seed(steps)
    latents = torch.randn(1, 4, 6, 5, generator=generator)
    for index, time in enumerate(sampler.times):
        step = sampler.step(latents, torch.sin(2 * latents + time / 300), index, None, earlier)
        latents, earlier = (
            step.drawn(torch.randn(latents.shape, generator=generator) if step.sd else None),
            (step.clean, *earlier),
        )
    reference.expect(f"multistep_{steps}", latents[0])


@pytest.mark.parametrize(
    ("name", "key", "seed", "size", "settings"),
    [
        ("diffbir", "square_21", 0, (32, 32), {}),
        ("diffbir", "odd_21", 2, (32, 37), {}),
        ("diffbir", "tiled_21", 1, (32, 51), {"latent_tile": 16, "latent_overlap": 8}),
        ("diffbir-v2", "odd_2", 3, (20, 33), {}),
    ],
)
def test_whole_outputs(reference, model, sampled, name, key, seed, size, settings):
    """From an image to an image: both stages, guidance away from a negative prompt, whole and in latent tiles."""
    reference.expect(key, sampled(model(name, **settings), image(seed, *size))[::2, ::2], close=3e-4)


def test_the_published_settings_are_the_defaults():
    chosen = {kind.name: {key: kind.defaults[key] for key in ("guidance", "steps")} for kind in (DiffBIR, DiffBIR2)}
    assert chosen == {"DiffBIR 2.1": {"guidance": 8.0, "steps": 10}, "DiffBIR 2": {"guidance": 4.0, "steps": 50}}


@pytest.mark.parametrize("name", MODELS)
def test_a_single_step_is_refused(folder, name):
    with pytest.raises(UserError, match="DiffBIR needs 2 steps or more, but steps=1 was requested"):
        open_upscaler(name, scale=4, diffusion={"steps": 1})


def test_odd_and_small_sizes_and_settings(folder):
    outputs = set()
    for settings in ({}, {"guidance": 1.0}, {"prompt": "cat"}, {"seed": 1}, {"color_fix": "adain"}):
        output = restored("diffbir", image(0, 19, 27), SMALL | {"steps": 2} | settings)
        assert output.shape == (76, 108, 3)
        outputs.add(output.tobytes())
    assert len(outputs) == 5


def test_a_dataset_of_it_verifies(dataset_of):
    assert dataset_of("diffbir", SMALL | {"steps": 2}).is_dir()


@pytest.mark.parametrize(
    ("place", "content", "said"),
    [
        (CONTROL, CLEANER, "does not hold DiffBIR's ControlNet: there is no tensor input_blocks.1.0"),
        (
            STABLE,
            CONTROL,
            r"does not hold (an OpenCLIP text encoder|a Stable Diffusion 2 UNet): there is no tensor (cond|model)",
        ),
        (CLEANER, CONTROL, r"holds no network that spandrel knows"),
    ],
)
def test_a_checkpoint_in_the_wrong_slot_is_refused_by_what_it_lacks(copied, place, content, said):
    shutil.copy(copied / content, copied / place)
    with pytest.raises(UserError, match=said):
        open_upscaler("diffbir", scale=4, diffusion=SMALL)


def test_the_first_stage_of_another_version_is_refused(copied):
    shutil.copy(copied / CLEANER, copied / CLEANER_2)
    with pytest.raises(UserError, match=r"BSRNet.pth holds SwinIR ×1, not the first stage of DiffBIR 2, ESRGAN ×4.\n.*versions"):
        open_upscaler("diffbir-v2", scale=4, diffusion=SMALL)


def test_tensors_that_the_control_net_does_not_know_are_named(copied):
    state = torch.load(copied / CONTROL, weights_only=True)
    torch.save(state | {"input_hint.weight": torch.zeros(2)}, copied / CONTROL)
    with pytest.raises(UserError, match=r"DiffBIR's ControlNet: tensors 1 unknown \(first input_hint.weight\)"):
        open_upscaler("diffbir", scale=4, diffusion=SMALL)
