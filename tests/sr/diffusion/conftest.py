"""What the tests of diffusion models share: recorded numbers, running a model on an image, datasets of its outputs."""

import pytest
import torch

SMALL_DATASET = (
    "source.crop=64",
    "source.crops_per_photo=1",
    "map.features=gradient",
    "map.calibration_pairs=1",
    "severity=[0, 1]",
    "masks.kinds={full: 1}",
    "splits={train: 1, validation: 0, test: 0}",
)


@pytest.fixture(scope="module")
def reference(request):
    """The numbers recorded from the published implementation that the test's module names in RECORDED."""
    from recordings import recorded

    return recorded(request.module.RECORDED)


@pytest.fixture
def model(request, folder):
    """Opens a model of the zoo, by default the first of the module's MODELS, with settings beside the module's SMALL."""
    from fgr.recipe.sampling import Sampling
    from fgr.sr.diffusion.opening import open_model

    def opened(name=request.module.MODELS[0], **settings):
        return open_model(name, Sampling(**getattr(request.module, "SMALL", {}) | settings), torch.device("cpu"))

    return opened


@pytest.fixture
def sampled():
    """Runs a model on an image as the upscaler does: the output before it is rounded, float32 (H, W, 3)."""
    from fgr.sr.diffusion.stepwise import generators, sample

    def run(model, pixels):
        with torch.inference_mode():
            inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
            return sample(model, inputs, generators([pixels], 0))[0].permute(1, 2, 0)

    return run


@pytest.fixture
def recipe_of():
    """The recipe of two samples of a diffusion model, with `settings` of it and `more` keys."""
    from fgr import recipe as recipes

    def recipe(name, settings=None, **more):
        chosen = {"models": [name], "samples": 2, **more}
        chosen |= {f"inference.diffusion.{key}": value for key, value in (settings or {}).items()}
        return recipes.load("demo", "generate", SMALL_DATASET, chosen)

    return recipe


@pytest.fixture
def dataset_of(recipe_of, folder, tmp_path):
    """Makes the dataset of `recipe_of`, which keeps every promise; returns its directory."""
    from fgr.dataset import verify
    from fgr.generate import run

    def made(name, settings=None, **more):
        out = tmp_path / "out"
        assert run.generate(recipe_of(name, settings, **more), out, workers=1, device="cpu")
        assert not list(verify.verify(out))
        return out

    return made
