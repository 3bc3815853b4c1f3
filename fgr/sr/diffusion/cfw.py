"""StableSR's controllable feature wrapping: the decoder also sees what the encoder made of the low-resolution image.

Section 3.2 of arXiv 2305.07015; names are those of the checkpoint (`vqgan_cfw_*.ckpt`).
"""

from typing import Any

import torch
from torch import nn

LEVELS = (1, 2)  # of the autoencoder, whose widths differ
GROWTH, DENSE_BLOCKS, SLOPE, RESIDUAL = 32, 2, 0.2, 0.2


class ResidualBlock(nn.Module):
    """(B, into, H, W) → (B, out, H, W)."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, into, eps=1e-6), nn.Conv2d(into, out, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, out, eps=1e-6), nn.Conv2d(out, out, 3, padding=1)
        if into != out:
            self.conv_out = nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(nn.functional.silu(self.norm1(x)))
        inner = self.conv2(nn.functional.silu(self.norm2(inner)))
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
            seen.append(nn.functional.leaky_relu(self.get_submodule(f"conv{i}")(torch.cat(seen, 1)), SLOPE))
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
        self.encode_enc_1 = ResidualBlock(2 * channels, channels)
        self.encode_enc_2 = nn.Sequential(*(DenseBlocks(channels) for _ in range(DENSE_BLOCKS)))
        self.encode_enc_3 = ResidualBlock(channels, channels)

    def forward(self, encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        return self.encode_enc_3(self.encode_enc_2(self.encode_enc_1(torch.cat([encoded, decoded], 1))))


class Wrapping(nn.Module):
    """The fusions of an autoencoder of diffusers: it remembers what the encoder saw, and adds it when the decoder runs next."""

    def __init__(self, vae: Any, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._seen: dict[int, torch.Tensor] = {}
        widths = vae.config.block_out_channels
        for level in LEVELS:
            self.add_module(f"fusion_layer_{level}", Fusion(widths[level]))
            vae.encoder.down_blocks[level].resnets[-1].register_forward_hook(self._remember(level))
            vae.decoder.up_blocks[len(widths) - 1 - level].resnets[-1].register_forward_hook(self._add(level))

    def forget(self) -> None:
        """Let go of the features; decoding then needs another encoding first."""
        self._seen.clear()

    def _remember(self, level: int) -> Any:
        def remember(module: Any, inputs: Any, output: torch.Tensor) -> None:
            self._seen[level] = output

        return remember

    def _add(self, level: int) -> Any:
        fusion = self.get_submodule(f"fusion_layer_{level}")
        return lambda module, inputs, output: (
            output + self.weight * fusion(self._seen[level].to(output.dtype), output) if self.weight else None
        )
