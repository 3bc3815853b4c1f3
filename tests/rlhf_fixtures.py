"""Small SR networks in the files that users have, and a small staged reward model."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

BLOCKS = 2


def rrdbnet(features: int = 8) -> dict[str, torch.Tensor]:
    """The state of an RRDBNet ×4 of two blocks, random weights, named as in BasicSR's releases."""
    shapes = {
        "conv_first": (features, 3),
        "conv_body": (features, features),
        "conv_hr": (features, features),
        "conv_last": (3, features),
    }
    shapes |= dict.fromkeys(("conv_up1", "conv_up2", "conv_hr"), (features, features))
    for block in range(BLOCKS):
        for dense in (1, 2, 3):
            for conv in range(1, 6):
                name = f"body.{block}.rdb{dense}.conv{conv}"
                shapes[name] = (32 if conv < 5 else features, features + 32 * (conv - 1))
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, (out, into) in shapes.items():
        state[f"{name}.weight"] = torch.randn(out, into, 3, 3, generator=generator) * 0.5 / np.sqrt(9 * into)
        state[f"{name}.bias"] = torch.full((out,), 0.1)
    return state


def compact(features: int = 16) -> dict[str, torch.Tensor]:
    """The state of an SRVGGNetCompact ×4 of three convolutions, random weights."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, (out, into) in enumerate(((features, 3), (features, features), (48, features))):
        state[f"body.{2 * number}.weight"] = torch.randn(out, into, 3, 3, generator=generator) * 0.2 / np.sqrt(9 * into)
        state[f"body.{2 * number}.bias"] = torch.zeros(out)
        if number < 2:
            state[f"body.{2 * number + 1}.weight"] = torch.full((features,), 0.2)
    return state


def swinir() -> dict[str, torch.Tensor]:
    """The state of a small SwinIR ×4 for real images, random weights."""
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        return SwinIR(
            upscale=4, in_chans=3, img_size=16, img_range=1.0, window_size=8, depths=[2, 2], embed_dim=12, num_heads=[2, 2],
            mlp_ratio=2, upsampler="nearest+conv", resi_connection="1conv",
        ).state_dict()  # fmt: skip


def span() -> dict[str, torch.Tensor]:
    """The state of a small SPAN ×4, random weights."""
    from spandrel.architectures.SPAN import SPAN

    torch.manual_seed(0)
    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=4).state_dict()


NETWORKS = {"rrdbnet": rrdbnet, "compact": compact, "swinir": swinir, "span": span}


@pytest.fixture(scope="session")
def network_files(tmp_path_factory) -> dict[str, str]:
    """Names (spandrel:PATH) of a small file of each family."""
    folder = tmp_path_factory.mktemp("networks")
    for name, make in NETWORKS.items():
        save_file({key: value.contiguous() for key, value in make().items()}, folder / f"{name}.safetensors")
    return {name: f"spandrel:{folder / name}.safetensors" for name in NETWORKS}


@pytest.fixture(scope="session")
def reward_run(tmp_path_factory) -> Path:
    """RM_0 … RM_2 in a run's folders: random weights, but maps and scores that depend on the image."""
    from fgr.reward.model import FinPercepRM

    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    for stage in range(3):
        model = FinPercepRM(stage=stage, stages=2).eval()
        torch.nn.init.normal_(model.head[-1].weight)
        model.set_map_mean(0.5)
        for level in model.decoder.levels if model.decoder else ():
            torch.nn.init.normal_(level.out.weight, std=0.1)
        model.save_pretrained(folder / f"stage-{stage}")
    return folder


@pytest.fixture(scope="session")
def sources(network_files, reward_run, tiny) -> tuple[str, str, str]:
    """Generator, reward and data of a small run."""
    return network_files["compact"], str(reward_run), str(tiny)
