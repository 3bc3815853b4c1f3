"""Test images on the disk, a reward model with random weights, a cache of the tests' own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.disable_progress_bars()


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture(scope="session")
def write_image():
    """Writes a uint8 (H, W, 3) image: (path, image) → path."""
    return save


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Four 96-pixel crops of photographs."""
    import skimage.data

    whole = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    return [np.ascontiguousarray(one[100:196, 120:216]) for one in whole]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory, photos) -> Path:
    """A folder with gt/ and lr/, ×2: read only."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, photo in enumerate(photos):
        save(folder / "gt" / f"img{number}.png", photo)
        save(folder / "lr" / f"img{number}x2.png", np.asarray(Image.fromarray(photo).resize((48, 48), Image.Resampling.BOX)))
    return folder


@pytest.fixture(scope="session")
def reward(tmp_path_factory) -> Path:
    """The folder of a reward model with random weights, whose maps are not flat."""
    from fgr.reward.model import FinPercepRM

    torch.manual_seed(0)
    model = FinPercepRM()
    for level in model.decoder.levels:
        torch.nn.init.normal_(level.out.weight, std=0.3)
    folder = tmp_path_factory.mktemp("reward") / "rm"
    model.save_pretrained(folder)
    return folder
