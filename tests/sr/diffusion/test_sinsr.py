"""SinSR against numbers recorded from its published sampler (wyf0912/SinSR, commit f173549), run on ResShift's small networks,
whose own numbers are compared in test_resshift.py."""

import pytest
from small_diffusion import image

from fgr.errors import UserError
from fgr.sr import license_of, open_upscaler

MODELS, RECORDED = ("sinsr",), "resshift_reference.npz"


def test_whole_output(reference, model, sampled):
    opened, calls = model(), []
    opened.networks["unet"].register_forward_hook(lambda *_: calls.append(1))
    reference.expect("sinsr", sampled(opened, image(7, 64, 64))[::4, ::4])
    assert len(calls) == 1


def test_it_has_one_step_and_a_licence_for_research(folder):
    with pytest.raises(UserError, match="SinSR has one step, but steps=2 was requested"):
        open_upscaler("sinsr", scale=4, diffusion={"steps": 2})
    assert license_of("sinsr") == "S-Lab-1.0 AND CC-BY-NC-SA-4.0"
