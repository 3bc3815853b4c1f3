"""A tiny real dataset, made once a session by `fgr generate`: tests read it or copy it, and never change it."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["reward_fixtures", "rlhf_fixtures"]  # small networks, datasets and runs that several folders share

TINY = ("source.crop=128", "source.crops_per_photo=2", "map.calibration_pairs=4", "shard_rows=4", "severity=[0.005, 1.0]")


@pytest.fixture(scope="session")
def tiny_overrides() -> tuple[str, ...]:
    """What `tiny_recipe` changes in the demo recipe, as on the command line."""
    return TINY


@pytest.fixture(scope="session")
def tiny_recipe():
    """The demo recipe at 128 pixels with a real network and the bicubic baseline."""
    from fgr import recipe

    return recipe.load("demo", "generate", TINY, {"models": ["realesr-animevideov3", "bicubic"], "samples": 20})


@pytest.fixture(scope="session")
def tiny(tiny_recipe, tmp_path_factory) -> Path:
    """A finished dataset directory of `tiny_recipe`: read only."""
    from fgr.generate.run import generate

    out = tmp_path_factory.mktemp("data") / "tiny"
    assert generate(tiny_recipe, out, workers=1, device="cpu")
    return out
