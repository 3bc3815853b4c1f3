"""Free runs of ResShift against the last latents of the published implementation (zsyOAOA/ResShift, commit 3ce1d81), its own
autoencoder, network and sampler in float64 from the pixels on, on the same small weights, input and noise; its sines of the
times stay in float32. Nothing else is left in float32, whose last digits differ from processor to processor."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
from recordings import recorded
from small_diffusion import image

from bench.free_run import changed, run

MODELS = ("resshift",)


def test_in_float64_fifteen_free_steps_are_the_published_ones(folder):
    from fgr.recipe.sampling import Sampling
    from fgr.sr.diffusion.opening import open_model

    model = open_model("resshift", Sampling(), torch.device("cpu"))
    expected = recorded("resshift_reference.npz")["free_64"]
    last = run(model, image(0, 64, 64), torch.float64)[-1]
    assert np.abs(last[:, :, ::2, ::2].numpy() - expected).max() < 1e-10


def test_changed_words_are_counted_by_place():
    book = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    one = torch.zeros(1, 2, 2, 3)
    other = one.clone()
    other[0, :, 1, 2] = 0.9
    assert (changed(one, one, book), changed(one, other, book)) == (0, 1)
