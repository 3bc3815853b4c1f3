"""Noise that belongs to an image: the same alone or in a batch, on any device."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def seed_of(image: np.ndarray, seed: int) -> int:
    """A seed in [0, 2**63) that follows from an image's pixels, uint8 (h, w, 3), and the recipe's seed."""
    sha = hashlib.sha256(f"{seed} {image.shape}\n".encode())
    sha.update(np.ascontiguousarray(image).tobytes())
    return int.from_bytes(sha.digest()[:8], "big") >> 1


def generators(images: Sequence[np.ndarray], seed: int) -> list[torch.Generator]:
    """A generator for each image; on the CPU, so that every device draws the same numbers."""
    return [torch.Generator().manual_seed(seed_of(image, seed)) for image in images]


def draw(shape: Sequence[int], sources: Sequence[torch.Generator], like: torch.Tensor) -> Any:
    """Standard normal noise (B, …), a row from each of the B `sources`, on the device and in the dtype of `like`."""
    rows = [torch.randn(1, *shape[1:], generator=source) for source in sources]
    return torch.cat(rows).to(like.device, like.dtype)
