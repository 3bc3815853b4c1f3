"""Enlarging as Pillow does it, on 8-bit values: what several models were tested with."""

import numpy as np
import torch
from PIL import Image


def bicubic(images: torch.Tensor, height: int, width: int, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> torch.Tensor:
    """float32 (B, 3, h, w) in [0, 1] → (B, 3, height, width), rounded to 255ths."""
    pixels = (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    resized = [np.asarray(Image.fromarray(one).resize((width, height), kernel)) for one in pixels]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).to(images.device).float().div_(255).contiguous()


def twice(
    images: torch.Tensor, scale: int, least: int, multiple: int, last: Image.Resampling = Image.Resampling.BICUBIC
) -> torch.Tensor:
    """First so that the shorter side times `scale` is `least` pixels, where it is less; then by `scale`; then, with the kernel
    `last`, down to sides that are multiples of `multiple`."""
    height, width = images.shape[2:]
    factor = least // scale / min(height, width)
    if factor > 1:
        height, width = int(height * factor), int(width * factor)
        images = bicubic(images, height, width)
    height, width = height * scale, width * scale
    images = bicubic(images, height, width)
    if height % multiple or width % multiple:
        images = bicubic(images, height - height % multiple, width - width % multiple, last)
    return images
