"""The image encoder: multi-scale features of a small ConvNet or of any timm backbone, whole, partly frozen or with LoRA."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from fgr.errors import UserError, nearest

Trained = Literal["all", "none", "deepest", "lora"]


class Block(nn.Module):
    """A residual pair of 3×3 convolutions without normalisation; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.gelu(self.first(functional.gelu(x))))


class TinyEncoder(nn.Module):
    """A ConvNet of 0.4 M parameters for training from scratch: features at 1/2, 1/4, 1/8 and 1/16 of the input.

    Nothing in it looks at the batch or at statistics of the whole image, so a feature depends on its surroundings alone.
    """

    channels = (16, 32, 64, 96)
    reductions = (2, 4, 8, 16)
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self) -> None:
        super().__init__()
        first, *deeper = self.channels
        self.stem = nn.Conv2d(12, first, 3, padding=1)
        self.levels = nn.ModuleList([Block(first)])
        previous = first
        for channels, blocks in zip(deeper, (2, 2, 1), strict=True):
            down = nn.Conv2d(previous, channels, 2, stride=2)
            self.levels.append(nn.Sequential(down, *(Block(channels) for _ in range(blocks))))
            previous = channels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of x (B, 3, H, W), H and W multiples of 16, finest first."""
        x = self.stem(functional.pixel_unshuffle(x, 2))
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class TimmEncoder(nn.Module):
    """A timm backbone's `features_only` pyramid, finest first."""

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        self.backbone = _create(name, pretrained)
        info = self.backbone.feature_info
        self.channels, self.reductions = tuple(info.channels()), tuple(info.reduction())
        config = getattr(self.backbone, "pretrained_cfg", None) or self.backbone.default_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.backbone(x))


def build_encoder(name: str, pretrained: bool = False) -> TinyEncoder | TimmEncoder:
    """The encoder `tiny`, or a timm backbone by name. UserError for a name that is unknown or weights that cannot be had."""
    return TinyEncoder() if name == "tiny" else TimmEncoder(name, pretrained)


def _create(name: str, pretrained: bool) -> Any:
    import timm

    if not timm.is_model(name):
        known = ["tiny", *timm.list_models()]
        raise UserError(
            f"There is no encoder '{name}'{nearest(name.partition('.')[0], known)}.",
            "Name 'tiny' or a timm backbone that gives features, for example resnet50_clip.openai.",
        )
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        if not pretrained:
            raise UserError(f"timm's '{name}' gives no multi-scale features: {error}", "Name another backbone.") from None
        raise UserError(
            f"The weights of '{name}' cannot be had: {_first_line(error)}",
            "Check the connection and HF_TOKEN (gated weights: accept their licence on the Hub), fetch them once on a machine "
            "with a connection and copy the Hub cache, or set encoder.pretrained=false or encoder.name=tiny.",
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class LowRank(nn.Module):
    """A trainable low-rank change of a weight, W + B·A; starts at zero."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.a = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.b @ self.a).view_as(weight)


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Give every convolution and linear layer of `encoder` a low-rank change of its weight."""
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def load_pretrained(encoder: nn.Module, name: str) -> None:
    """Fill `encoder`, with or without low-rank changes, with timm's weights of `name`. UserError if they cannot be had."""
    own = encoder.state_dict()
    weights = {}
    for key, value in build_encoder(name, pretrained=True).state_dict().items():
        parent, _, leaf = key.rpartition(".")
        weights[key if key in own else f"{parent}.parametrizations.{leaf}.original"] = value
    encoder.load_state_dict(own | weights)


def merge_lora(encoder: nn.Module) -> None:
    """Fold low-rank changes into the weights, for export."""
    for layer in [module for module in encoder.modules() if parametrize.is_parametrized(module)]:
        parametrize.remove_parametrizations(layer, "weight")


def set_trained(encoder: nn.Module, trained: Trained) -> None:
    """Choose which parameters learn: all, none, those of the deepest level, or the low-rank changes alone."""
    for parameter in encoder.parameters():
        parameter.requires_grad_(trained == "all")
    chosen: Iterator[nn.Parameter] = iter(())
    if trained == "deepest":
        chosen = _deepest(encoder).parameters()
    elif trained == "lora":
        chosen = (parameter for module in encoder.modules() if isinstance(module, LowRank) for parameter in module.parameters())
    for parameter in chosen:
        parameter.requires_grad_(True)


def _deepest(encoder: nn.Module) -> nn.Module:
    level: Any = encoder.levels if isinstance(encoder, TinyEncoder) else encoder.backbone
    while len(children := [child for child in level.children() if any(True for _ in child.parameters())]) == 1:
        level = children[0]
    return children[-1]
