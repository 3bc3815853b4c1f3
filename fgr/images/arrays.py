"""Images as arrays and as tensors: uint8 (H, W, 3) ↔ float32 (B, 3, H, W) in [0, 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def as_tensor(images: Sequence[np.ndarray], device: Any = "cpu") -> Any:
    """uint8 (H, W, 3) images of one size → a float32 torch tensor (B, 3, H, W) in [0, 1] on `device`."""
    import torch

    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return stacked.to(device).float() / 255


def as_images(images: Any) -> list[np.ndarray]:
    """A float torch tensor (B, 3, H, W) in [0, 1] → uint8 (H, W, 3) images, rounded."""
    import torch

    values = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return list(values.permute(0, 2, 3, 1).contiguous().cpu().numpy())
