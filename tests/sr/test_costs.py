"""What models cost, told before they are opened."""

import importlib

import pytest

from fgr.recipe.sampling import Sampling
from fgr.sr import parse_name
from fgr.sr.costs import DIFFUSION_COSTS, cost, image_seconds, speed
from fgr.sr.zoo import DIFFUSION, ZOO


def test_steps_and_guidance_are_the_models_defaults():
    pytest.importorskip("diffusers")
    from fgr.sr.diffusion.opening import MODELS

    assert DIFFUSION_COSTS.keys() == set(DIFFUSION)
    for name, (module, kind) in MODELS.items():
        defaults, own = getattr(importlib.import_module(f"fgr.sr.diffusion.{module}"), kind).defaults, DIFFUSION_COSTS[name]
        assert defaults["steps"] == own.steps, name
        assert (defaults.get("guidance", 1.0) != 1) == own.guided, name


def test_the_cost_of_a_model_in_a_line():
    assert cost("stablesr") == (
        "7.4 GB to fetch; 1,440 M parameters; for an image of 512×512: 6.6 GB of memory in fp32, 200 calls of its UNet, "
        "199.2 TFLOP (counted), about 12 s on a GPU, 42 min on a CPU core (computed from them)"
    )
    assert "1 call of its UNet, 4.4 TFLOP" in cost("osediff")
    assert cost("realesrgan").startswith("67 MB to fetch; about 0.05 s a megapixel")
    assert cost("bicubic") is None
    assert all(cost(name) for name in ZOO)
    assert all(own.teraflop > 1 and own.gigabytes > 4e-3 * own.million for own in DIFFUSION_COSTS.values())


def test_time_follows_steps_guidance_passes_and_the_least_size():
    usual = speed(parse_name("diffbir")).gpu
    for name, sampling, share in (
        ("diffbir@steps=5", None, 0.5), ("diffbir", Sampling(steps=20), 2), ("diffbir@steps=10", Sampling(steps=20), 1),
        ("diffbir", Sampling(guidance=1), 0.5), ("diffbir@passes=2", Sampling(guidance=3), 2),
    ):  # fmt: skip
        assert speed(parse_name(name), sampling).gpu == pytest.approx(share * usual), name
    assert image_seconds(parse_name("diffbir"), 128) == image_seconds(parse_name("diffbir"), 512)
    assert image_seconds(parse_name("realesrgan"), 128).cpu == image_seconds(parse_name("realesrgan"), 512).cpu / 16
    assert speed(parse_name("bicubic")) == (0, 0)
