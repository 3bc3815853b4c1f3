"""What the tests of networks share: one thread, and a small network with the settings that a test asks for."""

import pytest
import torch


@pytest.fixture
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def small_network(tmp_path):
    """Opens a small network with the settings given."""
    from safetensors.torch import save_file
    from small_network import compact

    from fgr.sr import open_upscaler

    def open_small(device="cpu", tile=0, overlap=16, precision="fp32", batch=1, **weights):
        save_file(compact(**weights), tmp_path / "small.safetensors")
        return open_upscaler(
            f"spandrel:{tmp_path / 'small.safetensors'}",
            scale=2, device=device, tile=tile, overlap=overlap, precision=precision, batch=batch,
        )  # fmt: skip

    return open_small
