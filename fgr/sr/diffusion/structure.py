"""StableSR's conditioning: what the low-resolution latent shows at each scale, and how the UNet's blocks take it in.

Wang et al., Exploiting Diffusion Prior for Real-World Image Super-Resolution (arXiv 2305.07015), section 3.1; the published
weights use spatially-adaptive normalisation (SPADE, arXiv 1903.07291) in the place of SFT. Names are those of the checkpoints.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

LEVELS, BLOCKS, HEADS, ATTENTION_LEVELS = 4, 2, 4, 3
Features = dict[tuple[int, int], torch.Tensor]  # by (height, width)


class ResidualBlock(nn.Module):
    """A residual block told the time: (B, into, H, W), (B, 4·width) → (B, out, H, W)."""

    def __init__(self, into: int, out: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        inner = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(inner)


class Attention(nn.Module):
    """Self-attention of four heads over all positions; queries, keys and values of a head lie side by side in `qkv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        batch, channels = x.shape[:2]
        flat = x.flatten(2)
        heads = self.qkv(self.norm(flat)).reshape(batch, HEADS, 3, channels // HEADS, -1).transpose(3, 4)
        mixed = functional.scaled_dot_product_attention(heads[:, :, 0], heads[:, :, 1], heads[:, :, 2])
        return (flat + self.proj_out(mixed.transpose(2, 3).reshape(batch, channels, -1))).reshape(x.shape)


class Down(nn.Module):
    """Half the height and the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return self.op(x)


class First(nn.Conv2d):
    """The first convolution, which is told no time."""

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)


class StructureEncoder(nn.Module):
    """Half a UNet over the low-resolution latent, told the time: (B, 4, H, W), (B,) → features at four scales."""

    def __init__(self, latent: int, widths: tuple[int, ...], out: int) -> None:
        super().__init__()
        embedding = 4 * widths[0]
        self.width = widths[0]
        self.time_embed = nn.Sequential(nn.Linear(self.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(latent, self.width, 3, padding=1)])])
        channels = self.width
        for level, width in enumerate(widths):
            for _ in range(BLOCKS):
                attention = [Attention(width)] if level < ATTENTION_LEVELS else []
                self.input_blocks.append(nn.ModuleList([ResidualBlock(channels, width, embedding), *attention]))
                channels = width
            if level < LEVELS - 1:
                self.input_blocks.append(nn.ModuleList([Down(channels)]))
        middle = [ResidualBlock(channels, channels, embedding), Attention(channels), ResidualBlock(channels, channels, embedding)]
        self.middle_block = nn.ModuleList(middle)
        self.fea_tran = nn.ModuleList([ResidualBlock(width, out, embedding) for width in widths])

    def forward(self, latent: torch.Tensor, times: torch.Tensor) -> Features:
        from diffusers.models.embeddings import get_timestep_embedding

        sines = get_timestep_embedding(times, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        embedding = self.time_embed(sines.to(latent.dtype))
        found: list[torch.Tensor] = []
        x = latent
        for blocks in [*self.input_blocks, self.middle_block]:
            if isinstance(blocks[0], Down):
                found.append(x)
            for block in blocks:
                x = block(x, embedding)
        found.append(x)
        shown = [tran(one, embedding) for tran, one in zip(self.fea_tran, found, strict=True)]
        return {(one.shape[2], one.shape[3]): one for one in shown}


def structure_encoder(state: Mapping[str, torch.Tensor]) -> StructureEncoder:
    """The encoder that tensors in official names belong to, not yet filled. KeyError if they are none."""
    widths = tuple(state[f"input_blocks.{3 * level + 1}.0.out_layers.3.weight"].shape[0] for level in range(LEVELS))
    return StructureEncoder(state["input_blocks.0.0.weight"].shape[1], widths, state["fea_tran.0.out_layers.3.weight"].shape[0])


class Spade(nn.Module):
    """Normalises (B, C, H, W), then scales and shifts each position as the structure there says."""

    HIDDEN = 128

    def __init__(self, channels: int, structure: int) -> None:
        super().__init__()
        self.param_free_norm = nn.GroupNorm(32, channels)
        self.mlp_shared = nn.Sequential(nn.Conv2d(structure, self.HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(self.HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(self.HIDDEN, channels, 3, padding=1)

    def forward(self, x: torch.Tensor, structure: torch.Tensor) -> torch.Tensor:
        shared = self.mlp_shared(structure)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class Structure:
    """The features that a UNet's Spade blocks see; set before each call of the UNet."""

    def __init__(self) -> None:
        self.features: Features = {}

    def attach(self, unet: Any, channels: int) -> None:
        """Hang a Spade of `channels` structure features under each residual block, on the output of its second convolution."""
        from diffusers.models.resnet import ResnetBlock2D

        for block in [one for one in unet.modules() if isinstance(one, ResnetBlock2D)]:
            block.spade = Spade(block.conv2.out_channels, channels)
            block.conv2.register_forward_hook(self._hook(block))

    def _hook(self, block: Any) -> Any:
        return lambda module, inputs, output: block.spade(output, self.features[output.shape[2], output.shape[3]])
