"""Anti-aliased downsampling: features that do not depend on the phase of a pattern.

A convolution that skips every second place sees a lattice of period 2 or 4 differently at each of its phases, and its gradient by
the image is a lattice itself: that is what networks draw that are tuned against it. Here every place is computed, and after the
nonlinearity – what a fine pattern leaves there is slow – a blur comes before every second one is dropped (after Zhang, Making
Convolutional Networks Shift-Invariant Again, arXiv 1904.11486).
"""

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError

HALVING = (1.0, 3.0, 3.0, 1.0)  # a binomial filter of four taps: centred between the two pixels that become one
SMOOTHING = (1.0, 2.0, 1.0)


def antialiased(backbone: Any, name: str) -> Any:
    """A timm backbone whose convolutions of stride 2 compute every place, and the normalisation and activation after them halves.

    Names and shapes of weights stay, so published ones fit. UserError for a backbone that is built otherwise than EfficientNet.
    """
    strided = [
        (convolution, following)
        for parent in backbone.modules()
        for convolution, following in itertools.pairwise([*parent.children(), None])
        if isinstance(convolution, nn.Conv2d) and max(convolution.stride) > 1
    ]
    odd = [pair for pair in strided if not hasattr(pair[1], "act") or pair[0].stride != (2, 2)]
    if odd or not strided:
        raise UserError(
            f"encoder.antialias does not know the backbone '{name}': where it halves the resolution there is no convolution with "
            "a normalisation and activation after it.",
            "Name tiny or a backbone of EfficientNet's kind, such as tf_efficientnet_lite0, or set encoder.antialias=false.",
        )
    for convolution, following in strided:
        convolution.stride = (1, 1)
        following.register_forward_hook(_halve)
    return backbone


def halved(x: torch.Tensor) -> torch.Tensor:
    """x (B, C, H, W), H and W even, blurred and at half the resolution."""
    return _filtered(x, HALVING, 2)


def smoothed(x: torch.Tensor) -> torch.Tensor:
    """x (B, C, H, W) under a binomial filter of three taps each way."""
    return _filtered(x, SMOOTHING, 1)


def _halve(module: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
    return halved(output)


def _filtered(x: torch.Tensor, taps: tuple[float, ...], stride: int) -> torch.Tensor:
    row = torch.tensor(taps, device=x.device, dtype=x.dtype)
    kernel = (row[:, None] * row / row.sum() ** 2).expand(x.shape[1], 1, len(taps), len(taps))
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=stride, groups=x.shape[1])
