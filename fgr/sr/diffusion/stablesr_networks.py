"""StableSR's own networks: structure encoder, its features in the UNet, wrapped decoder.

Wang et al., Exploiting Diffusion Prior for Real-World Image Super-Resolution (arXiv 2305.07015), sections 3.1 and 3.2; the
published weights use spatially-adaptive normalisation (SPADE, arXiv 1903.07291) in the place of SFT. Names are those of the
checkpoints.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

LEVELS, BLOCKS, HEADS, ATTENTION_LEVELS = 4, 2, 4, 3
WRAPPED = (1, 2)  # levels of the autoencoder, whose widths differ
GROWTH, DENSE_BLOCKS, SLOPE, RESIDUAL = 32, 2, 0.2, 0.2
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


class FusionBlock(nn.Module):
    """(B, into, H, W) → (B, out, H, W)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, into, eps=1e-6), nn.Conv2d(into, out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, out, eps=1e-6), nn.Conv2d(out, out, 3, padding=1)
        if into != out:
            self.conv_out = nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(functional.silu(self.norm1(x)))
        inner = self.conv2(functional.silu(self.norm2(inner)))
        return inner + (self.conv_out(x) if hasattr(self, "conv_out") else x)


class DenseBlock(nn.Module):
    """Five convolutions, each seeing all before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in range(1, 6):
            out = GROWTH if i < 5 else channels
            self.add_module(f"conv{i}", nn.Conv2d(channels + (i - 1) * GROWTH, out, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for i in range(1, 5):
            seen.append(functional.leaky_relu(self.get_submodule(f"conv{i}")(torch.cat(seen, 1)), SLOPE))
        return x + RESIDUAL * self.get_submodule("conv5")(torch.cat(seen, 1))


class DenseBlocks(nn.Module):
    """Three dense blocks within a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = DenseBlock(channels), DenseBlock(channels), DenseBlock(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class Fusion(nn.Module):
    """What is added to a decoder's feature for an encoder's: (B, C, H, W) twice → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encode_enc_1 = FusionBlock(2 * channels, channels)
        self.encode_enc_2 = nn.Sequential(*(DenseBlocks(channels) for _ in range(DENSE_BLOCKS)))
        self.encode_enc_3 = FusionBlock(channels, channels)

    def forward(self, encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        return self.encode_enc_3(self.encode_enc_2(self.encode_enc_1(torch.cat([encoded, decoded], 1))))


class Wrapping(nn.Module):
    """The fusions of an autoencoder of diffusers, which hang under it: what the encoder saw is added when the decoder runs.

    `features` by level are those of the last encoding, until they are taken; the decoder adds what it finds there.
    """

    def __init__(self, vae: Any, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.features: dict[int, torch.Tensor] = {}
        widths = vae.config.block_out_channels
        for level in WRAPPED:
            self.add_module(f"fusion_layer_{level}", Fusion(widths[level]))
            vae.encoder.down_blocks[level].resnets[-1].register_forward_hook(self._remember(level))
            vae.decoder.up_blocks[len(widths) - 1 - level].resnets[-1].register_forward_hook(self._add(level))

    def take(self) -> dict[int, torch.Tensor]:
        """The features of the last encoding; decoding then needs them to be set again."""
        taken, self.features = self.features, {}
        return taken

    def _remember(self, level: int) -> Any:
        def remember(module: Any, inputs: Any, output: torch.Tensor) -> None:
            self.features[level] = output

        return remember

    def _add(self, level: int) -> Any:
        fusion = self.get_submodule(f"fusion_layer_{level}")
        return lambda module, inputs, output: (
            output + self.weight * fusion(self.features[level].to(output.dtype), output) if self.weight else None
        )
