"""Every family from a small random file in the layout of its official release, by name, up to a verified dataset."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.sr import Job, open_upscaler
from fgr.sr.zoo import ZOO

RRDB_NAMES = {  # layer → its name in BasicSR's releases, and in KAIR's
    "basicsr": {"block": "body.{i}.rdb{j}.conv{k}", "trunk": "conv_body", "up": "conv_up{i}", "hr": "conv_hr"},
    "kair": {"block": "RRDB_trunk.{i}.RDB{j}.conv{k}", "trunk": "trunk_conv", "up": "upconv{i}", "hr": "HRconv"},
    "old": {"block": "model.1.sub.{i}.RDB{j}.conv{k}.0", "trunk": "model.1.sub.1", "hr": "model.8"},
}


def filled(shapes, seed):
    """Random weights of the size that keeps a network's activations in range."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.5 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.05)
        for name, shape in shapes.items()
    }


def rrdbnet(layout, seed, into=3, features=8):
    """An RRDBNet of one block; `into` = 12 for the ×2 network, which folds 2×2 pixels into channels first."""
    names, convs = RRDB_NAMES[layout], {}
    old = layout == "old"
    convs["model.0" if old else "conv_first"] = (features, into)
    for j in (1, 2, 3):
        for k in range(1, 6):
            convs[names["block"].format(i=0, j=j, k=k)] = (32 if k < 5 else features, features + 32 * (k - 1))
    convs[names["trunk"]] = (features, features)
    for i in (1, 2):
        convs[f"model.{3 * i}" if old else names["up"].format(i=i)] = (features, features)
    convs |= {names["hr"]: (features, features), "model.10" if old else "conv_last": (3, features)}
    shapes = {f"{name}.weight": (*channels, 3, 3) for name, channels in convs.items()}
    return filled(shapes | {f"{name}.bias": (channels[0],) for name, channels in convs.items()}, seed)


def compact(seed, convs=4, features=8):
    """An SRVGGNetCompact ×4."""
    shapes = {}
    for i in range(convs):
        out = features if i < convs - 1 else 48
        shapes |= {f"body.{2 * i}.weight": (out, 3 if i == 0 else features, 3, 3), f"body.{2 * i}.bias": (out,)}
        shapes |= {f"body.{2 * i + 1}.weight": (features,)} if i < convs - 1 else {}
    return filled(shapes, seed)


def built(seed, network, **options):
    """The state dict of one of spandrel's own modules, whose keys and buffers are the official ones, with random weights."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        return network(upscale=4, in_chans=3, img_size=16, img_range=1.0, **options).state_dict()


def swinir(seed, upsampler, resi="1conv"):
    from spandrel.architectures.SwinIR import SwinIR

    sizes = {"window_size": 8, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 2], "mlp_ratio": 2}
    return built(seed, SwinIR, upsampler=upsampler, resi_connection=resi, **sizes)


def hat(seed):
    from spandrel.architectures.HAT import HAT

    sizes = {"window_size": 8, "depths": [2], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 2, "overlap_ratio": 0.5}
    return built(seed, HAT, compress_ratio=3, squeeze_factor=6, conv_scale=0.01, upsampler="pixelshuffle", **sizes)


def dat(seed):
    from spandrel.architectures.DAT import DAT

    return built(seed, DAT, split_size=[8, 8], depth=[2], embed_dim=64, num_heads=[2], expansion_factor=2)


FILES = {  # model → what its released file holds
    "realesrgan": lambda: {"params_ema": rrdbnet("basicsr", 1)},
    "realesrnet": lambda: {"params": rrdbnet("basicsr", 0), "params_ema": rrdbnet("basicsr", 2)},
    "realesrgan-x2": lambda: {"params_ema": rrdbnet("basicsr", 3, into=12)},
    "realesrgan-anime": lambda: {"params_ema": rrdbnet("basicsr", 4)},
    "realesr-general": lambda: {"params": compact(5)},
    "realesr-general-wdn": lambda: {"params": compact(6)},
    "realesr-animevideov3": lambda: {"params": compact(7)},
    "bsrgan": lambda: rrdbnet("kair", 8),
    "esrgan": lambda: rrdbnet("old", 9),
    "swinir": lambda: {"params_ema": swinir(10, "nearest+conv")},
    "swinir-large": lambda: {"params_ema": swinir(11, "nearest+conv", "3conv")},
    "swinir-classical": lambda: {"params": swinir(12, "pixelshuffle")},
    "hat": lambda: {"params_ema": hat(13)},
    "hat-sharper": lambda: {"params_ema": hat(14)},
    "dat": lambda: {"params": dat(15)},
    "dat-light": lambda: {"params": dat(16)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A weights folder with a small network under the name of every released file."""
    where = tmp_path_factory.mktemp("weights")
    for name, content in FILES.items():
        torch.save(content(), where / ZOO[name].files[0].name)
    return where


@pytest.fixture
def small(folder, monkeypatch):
    """The table without the sizes that the small networks lack; returns the weights folder."""
    monkeypatch.setenv("FGR_WEIGHTS", str(folder))
    torch.set_num_threads(1)
    for name in FILES:
        monkeypatch.setitem(ZOO, name, replace(ZOO[name], tags=()))
    return folder


def test_every_spandrel_model_of_the_table_is_tried_here():
    """But those whose weights are in packages alone: tests/sr/test_ncnn.py tries the real ones."""
    assert set(FILES) == {name for name, release in ZOO.items() if release.architecture and release.files}


def test_each_family_makes_a_dataset_that_verifies(small, tmp_path):
    names = [name for name in FILES if ZOO[name].scale == 4]
    options = {"models": names, "samples": len(names), "source.crop": 64, "source.crops_per_photo": 1, "degradation": "bicubic"}
    limits = ("map.calibration_pairs=14", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    recipe = recipes.load("demo", "generate", limits, options)
    assert run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    made = {model["name"]: model for model in manifest.read(tmp_path / "out")["models"]}
    assert all("from the weights folder, not the released file itself" in model["weights"] for model in made.values())
    rows = list(tables.read_rows(tmp_path / "out", "samples", ["model", "model_digest", "sr"]))
    assert sorted(row["model"] for row in rows) == sorted(names)
    assert len({row["sr"] for row in rows}) == len(names)  # every file made an image of its own


def test_the_averaged_weights_are_the_ones_taken(small, tmp_path):
    """Files of a training run hold both; the release is params_ema."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    save_file(rrdbnet("basicsr", 2), tmp_path / "ema.safetensors")
    restored = [
        open_upscaler(name, scale=4).upscale([Job(image, "", (64, 64), (0, 0, 64))])[0]
        for name in ("realesrnet", f"spandrel:{tmp_path / 'ema.safetensors'}")
    ]
    assert np.array_equal(*restored)


def test_the_network_for_two(small):
    image = np.random.default_rng(0).integers(0, 256, (15, 18, 3), np.uint8)
    [restored] = open_upscaler("realesrgan-x2", scale=2).upscale([Job(image, "", (30, 36), (0, 0, 30))])
    assert restored.shape == (30, 36, 3)
    with pytest.raises(UserError, match="'realesrgan-x2' upscales ×2, but ×4 was requested"):
        open_upscaler("realesrgan-x2", scale=4)


def test_a_file_of_another_size_or_family_is_refused_by_name(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(folder))
    with pytest.raises(UserError, match=r"holds SwinIR small .* ×4, not SwinIR medium 180dim ×4 as its name says"):
        open_upscaler("swinir", scale=4)
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    torch.save({"params_ema": dat(1)}, tmp_path / "Real_HAT_GAN_SRx4.pth")
    with pytest.raises(UserError, match=r"holds DAT .*, not HAT medium 180dim ×4 as its name says"):
        open_upscaler("hat", scale=4)


@pytest.mark.parametrize("name", ["realesrgan", "bsrgan", "esrgan", "realesr-general-wdn", "swinir", "hat", "dat"])
def test_a_file_with_a_missing_layer_is_refused(small, tmp_path, monkeypatch, name):
    content = FILES[name]()
    state = next(iter(content.values())) if len(content) == 1 else content
    missing = [key for key in state if key.endswith("weight")][2]
    del state[missing]
    torch.save(content, tmp_path / ZOO[name].files[0].name)
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no network that spandrel knows|as its name says"):
        open_upscaler(name, scale=4)
