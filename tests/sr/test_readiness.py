"""What a model lacks and costs, told without opening it."""

import importlib

import pytest

from fgr.recipe.sampling import Sampling
from fgr.sr import parse_name
from fgr.sr.readiness import GUIDED, STEPS, cost, lacking
from fgr.sr.zoo import DIFFUSION, ZOO


def test_steps_and_guidance_are_the_models_defaults():
    pytest.importorskip("diffusers")
    from fgr.sr.diffusion.opening import MODELS

    assert set(STEPS) == set(DIFFUSION)
    for name, (module, kind) in MODELS.items():
        defaults = getattr(importlib.import_module(f"fgr.sr.diffusion.{module}"), kind).defaults
        assert defaults["steps"] == STEPS[name], name
        assert (defaults.get("guidance", 1.0) != 1) == (name in GUIDED), name


def test_the_cost_of_a_model_in_a_line():
    assert cost("stablesr") == (
        "7.4 GB to fetch, 1,850 M parameters; as much memory in fp32, and that of images; 200 calls of its UNet an image or "
        "latent tile; 199 TFLOP a 512×512 image; about 44 s a megapixel on a GPU, 9e+03 s on a CPU core"
    )
    assert cost("osediff").split("; ")[2] == "1 call of its UNet an image or latent tile"
    assert cost("realesrgan").startswith("67 MB to fetch; about 0.05 s a megapixel")
    assert cost("bicubic") is None
    assert all(cost(name) for name in ZOO)


def test_prompts_with_words_need_the_tagger(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for file in ZOO["osediff"].files:
        (tmp_path / file.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.name).write_bytes(b"")
    assert lacking(parse_name("osediff")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="auto")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="{tags}, sharp")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="sharp")) == []
    assert lacking(parse_name("osediff@prompt=")) == []
    for file in ZOO["osediff"].words:
        (tmp_path / file.name).write_bytes(b"")
    assert lacking(parse_name("osediff")) == []
