"""Low-rank adaptation (LoRA, arXiv 2106.09685) of networks and of the reward model's encoder.

The encoder's is our own: it is in published models, scoring with them must not need the extra `diffusion`, and a layer applies
one weight W + B·A, where peft adds the output of a second layer (other digits).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fgr.errors import missing_extra


def add_adapters(network: nn.Module, layers: Sequence[str], rank: int, alpha: float, purpose: str) -> Any:
    """peft's model around `network`, in which only low-rank changes of the layers of these names learn; at first they are 0.

    The changes are scaled by alpha / rank. UserError, which says for what `purpose`, if peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise missing_extra("peft", "diffusion", purpose) from None
    return get_peft_model(network, LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers)))  # type: ignore[arg-type]


class LowRank(nn.Module):
    """A trainable low-rank change of a weight, W + B·A; starts at zero."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.a = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.b @ self.a).view_as(weight)


def parametrize_low_rank(encoder: nn.Module, rank: int) -> None:
    """Give every convolution and linear layer of `encoder` a low-rank change of its weight."""
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def merge_low_rank(encoder: nn.Module) -> None:
    """Fold the low-rank changes of `encoder` into its weights."""
    for layer in [module for module in encoder.modules() if parametrize.is_parametrized(module)]:
        parametrize.remove_parametrizations(layer, "weight")
