"""What the tests of diffusion models share: recorded numbers, and running a model on an image."""

import pytest
import torch


@pytest.fixture(scope="module")
def reference(request):
    """The numbers recorded from the published implementation that the test's module names in RECORDED."""
    from small_diffusion import recorded

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
