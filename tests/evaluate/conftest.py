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


@pytest.fixture
def disrqad(tmp_path, photos, write_image):
    """Made-up outputs in DISRQAD's layout, two methods a family, each with its own noise, which lowers opinions."""
    methods, rng, lines = {"SeeSR": 4, "SUPIR": 20, "HAT": 10, "SwinIR": 40}, np.random.default_rng(0), ["img_name,mos"]
    for number, photo in enumerate(photos):
        write_image(tmp_path / "hr" / f"{number:05d}.png", photo)
        for method, level in methods.items():
            name = f"{method}_x4_{number:05d}_blur_x4.png"
            noisy_photo = np.clip(photo + rng.normal(0, level, photo.shape), 0, 255).astype(np.uint8)
            write_image(tmp_path / "sr_x4" / name, noisy_photo)
            lines.append(f"{name},{5 - level / 10}")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "mos.csv").write_text("\n".join([*lines, "HAT_x4_00009_blur_x4.png,"]) + "\n")
    return tmp_path


@pytest.fixture
def marked(tmp_path, photos, write_image):
    """Four photographs; in each a square of noise that most see, and a clean square that few call an artifact."""
    spot, clean = (slice(16, 48), slice(16, 48)), (slice(64, 80), slice(64, 80))
    rng, lines = np.random.default_rng(0), ["image,mask,prominence,reference,subset,generator"]
    write_image(tmp_path / "m" / "spot.png", _mask(spot))
    write_image(tmp_path / "m" / "clean.png", _mask(clean)[::2, ::2])  # a scaled copy
    for number, photo in enumerate(photos):
        image = photo.copy()
        image[spot] = np.clip(image[spot] + rng.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
        write_image(tmp_path / "sr" / f"{number}.png", image)
        write_image(tmp_path / "gt" / f"{number}.png", photo)
        write_image(tmp_path / "theirs" / f"{number}.png", _mask(spot))
        for name, share in (("spot", 0.9 - number / 10), ("clean", 0.1)):
            lines.append(f"sr/{number}.png,m/{name}.png,{share},gt/{number}.png,{'ab'[number % 2]},{'xy'[number // 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def _mask(place: tuple[slice, slice]) -> np.ndarray:
    found = np.zeros((96, 96), np.uint8)
    found[place] = 255
    return found
