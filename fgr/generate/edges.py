"""Edges of objects by HED, a VGG16 each of whose five depths draws the edges it sees (Xie, Tu 2015)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from fgr.errors import UserError, missing_extra

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of the five depths
MEAN_BGR = (104.00699, 116.66877, 122.67892)  # of ImageNet, in 8-bit steps
NAMES = {  # each layer's name in Keras's file
    **{
        f"block{depth}.{i}": f"block{depth}/layers/conv2d{f'_{i}' if i else ''}"
        for depth, count in enumerate(CONVOLUTIONS, start=1)
        for i in range(count)
    },
    **{f"side{depth}": f"dsn{depth}" for depth in range(1, 6)},
    "fuse": "fuse",
}


class Hed:
    """The network, from its layers' kernels (out, in, h, w) and biases (out), on a torch device."""

    def __init__(self, layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]], device: str) -> None:
        self._layers = {name: (kernel.to(device), bias.to(device)) for name, (kernel, bias) in layers.items()}
        self._mean = torch.tensor(MEAN_BGR, device=device).view(1, 3, 1, 1)

    def edges(self, image: np.ndarray) -> np.ndarray:
        """How likely each pixel of a uint8 (H, W, 3) RGB image lies on an object's edge: float32 (H, W) in [0, 1]."""
        pixels = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(self._mean.device)
        with torch.inference_mode():
            features = pixels.permute(2, 0, 1)[None].float() - self._mean
            sides = []
            for depth, count in enumerate(CONVOLUTIONS, start=1):
                if depth > 1:
                    features = functional.max_pool2d(features, 2, ceil_mode=True)
                for i in range(count):
                    features = functional.relu(self._convolve(f"block{depth}.{i}", features))
                side = self._convolve(f"side{depth}", features)
                sides.append(functional.interpolate(side, image.shape[:2], mode="bilinear"))
            return torch.sigmoid(self._convolve("fuse", torch.cat(sides, dim=1)))[0, 0].cpu().numpy()

    def _convolve(self, name: str, features: torch.Tensor) -> torch.Tensor:
        kernel, bias = self._layers[name]
        return functional.conv2d(features, kernel, bias, padding=kernel.shape[-1] // 2)


def read_layers(file: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The kernels and biases in Keras's HDF5 file of HED. UserError if it is damaged or of another network, or without h5py."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise missing_extra("h5py", "offline", "Masks by HED") from None
    layers = {}
    try:
        with h5py.File(file) as content:
            for name, path in NAMES.items():
                kernel, bias = (torch.from_numpy(content[f"{path}/vars/{i}"][()]) for i in range(2))
                layers[name] = kernel.permute(3, 2, 0, 1).contiguous(), bias
    except (OSError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{file} is damaged, or does not hold HED's weights ({str(error)[:160]}).",
            "Remove it, so that it is fetched again.",
        ) from None
    return layers
