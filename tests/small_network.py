"""An SR network of a few convolutions with random weights, and jobs for it."""

import torch
from skimage import data

from fgr.sr import Job

PHOTO = data.astronaut()


def compact(convs=3, features=8, scale=2, bias=0.0):
    """The state dict of an SRVGGNetCompact with `convs` convolutions: receptive field `convs` pixels to each side."""
    generator = torch.Generator().manual_seed(1)
    state, channels = {}, 3
    for i in range(convs):
        out = features if i < convs - 1 else 3 * scale**2
        state[f"body.{2 * i}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * 0.1
        state[f"body.{2 * i}.bias"] = torch.zeros(out)
        if i < convs - 1:
            state[f"body.{2 * i + 1}.weight"] = torch.full((features,), 0.2)
        channels = features
    state[f"body.{2 * convs - 2}.bias"] += bias
    return state


def jobs(*images):
    return [Job(image, "", image.shape[:2], (0, 0, len(image))) for image in images]
