"""sd-x4-upscaler and ldm-sr on small random weights: what a row depends on, what is refused, and a whole dataset."""

import json

import numpy as np
import pytest
from small_diffusion import image

from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.generate.replay import replay
from fgr.sr import Job, open_upscaler

MODELS = ("sd-x4-upscaler", "ldm-sr")
FEW = {"steps": 2}


def jobs(*images):
    return [Job(one, "", one.shape[:2], (0, 0, 0)) for one in images]


def opened(name, settings=FEW, **options):
    return open_upscaler(name, scale=4, diffusion=settings, **options)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_has_the_same_bytes_alone_and_in_company(folder, name):
    first, second = image(0, 18, 13), image(1, 18, 13)
    upscaler = opened(name)
    [alone] = upscaler.upscale(jobs(first))
    assert alone.shape == (72, 52, 3)
    assert np.array_equal(upscaler.upscale(jobs(second, first))[1], alone)
    assert np.array_equal(opened(name).upscale(jobs(first))[0], alone)
    upscaler.fit.batch = 2  # as on a GPU: the noise is the same, sums may be added in another order
    assert np.abs(upscaler.upscale(jobs(second, first))[1].astype(int) - alone).max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_and_the_steps_belong_to_the_row(folder, name):
    [plain] = opened(name).upscale(jobs(image(0)))
    for chosen in ({"steps": 2, "seed": 1}, {"steps": 3}):
        upscaler = opened(name, chosen)
        [other] = upscaler.upscale(jobs(image(0)))
        assert not np.array_equal(other, plain)
        settings = json.loads(json.dumps(upscaler.settings()))
        assert settings["diffusion"].items() >= chosen.items()
        assert np.array_equal(open_upscaler(name, scale=4, **settings).upscale(jobs(image(0)))[0], other)


def test_text_guidance_and_noise_level_reach_the_upscaler(folder):
    outputs = [
        opened("sd-x4-upscaler", FEW | chosen).upscale(jobs(image(0)))[0].tobytes()
        for chosen in ({}, {"prompt": "cat"}, {"negative_prompt": "dog"}, {"guidance": 1.0}, {"noise_level": 100})
    ]
    assert len(set(outputs)) == len(outputs)


@pytest.mark.parametrize("name", MODELS)
def test_a_single_step_is_refused(folder, name):
    """Its only time would be the schedule's cleanest."""
    with pytest.raises(UserError, match=f"{name} needs 2 steps or more, but steps=1 was requested"):
        opened(name, {"steps": 1})


def test_randomness_of_the_steps_is_that_of_the_model_card_unless_it_is_chosen(folder):
    outputs = {opened("ldm-sr", FEW | chosen).upscale(jobs(image(0)))[0].tobytes() for chosen in ({}, {"eta": 1.0}, {"eta": 0.0})}
    assert len(outputs) == 2
    assert opened("ldm-sr").settings()["diffusion"]["eta"] == 1.0


@pytest.mark.parametrize("name", MODELS)
def test_a_dataset_of_it_verifies_and_replays(dataset_of, name):
    made = dataset_of(name, {"steps": 2})
    assert list(replay(made, 2, "cpu")) == [None, None]
    [model] = manifest.read(made)["models"]
    assert model["weights"].startswith(f"{name}/unet/diffusion_pytorch_model.")
    for row in tables.read_rows(made, "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == 2
