"""ResShift's network: a UNet whose attention works in shifted windows.

Yue et al., ResShift (arXiv 2307.12348); names are those of the checkpoints. What the checkpoints do not say is fixed here.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

LEVELS, BLOCKS, NOMINAL = 4, 2, 64  # the latent that the network was trained on is 64×64
MASKED = -100.0


class Modulated(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by the time."""

    def __init__(self, into: int, out: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        inner = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](inner)


class Resized(nn.Module):
    """Half the sides (`op`), or twice (`conv`, after repeating each position)."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.add_module("conv" if up else "op", nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1))
        self.up = up

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        if self.up:
            return self.get_submodule("conv")(functional.interpolate(x, scale_factor=2, mode="nearest"))
        return self.get_submodule("op")(x)


class First(nn.Conv2d):
    """The first convolution, which is told no time."""

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x)


class WindowAttention(nn.Module):
    """Self-attention of (windows, positions, channels) with a bias for every relative position in a window."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _relative_positions(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """`mask` is added to the weights' logits: (windows of an image, positions, positions)."""
        windows, positions, channels = x.shape
        query, key, value = self.qkv(x).reshape(windows, positions, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.get_buffer("relative_position_index")].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(windows // len(mask), 1, 1, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        return self.proj(mixed.transpose(1, 2).reshape(windows, positions, channels))


class SwinBlock(nn.Module):
    """Attention in windows moved by `shift` positions, then a multilayer perceptron; both residual. (B, C, H, W) → the same."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, hidden: int, nominal: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.GroupNorm(32, channels), nn.GroupNorm(32, channels)
        self.attn = WindowAttention(channels, heads, window)
        self.mlp = nn.ModuleDict({"fc1": nn.Conv2d(channels, hidden, 1), "fc2": nn.Conv2d(hidden, channels, 1)})
        if shift:
            self.register_buffer("attn_mask", shift_mask(nominal, nominal, window, shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        moved = torch.roll(self.norm1(x), (-self.shift, -self.shift), (2, 3))
        side = self.window
        tiles = moved.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 3, 5, 1)
        seen = self.attn(tiles.reshape(-1, side * side, channels), self._mask(height, width, x.device))
        back = seen.reshape(batch, height // side, width // side, side, side, channels).permute(0, 5, 1, 3, 2, 4)
        x = x + torch.roll(back.reshape(x.shape), (self.shift, self.shift), (2, 3))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))

    def _mask(self, height: int, width: int, device: torch.device) -> torch.Tensor | None:
        if not self.shift:
            return None
        kept = self.get_buffer("attn_mask")
        if len(kept) * self.window**2 == height * width and height == width:
            return kept
        return shift_mask(height, width, self.window, self.shift).to(device)


class Swin(nn.Module):
    """Two blocks, the second in moved windows, at a width of their own."""

    def __init__(self, channels: int, width: int, heads: int, window: int, hidden: int, nominal: int) -> None:
        super().__init__()
        shifts = (0, 0 if nominal <= window else window // 2)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, 1)})
        self.blocks = nn.ModuleList([SwinBlock(width, heads, window, shift, hidden, nominal) for shift in shifts])
        self.patch_unembed = nn.ModuleDict({"proj": nn.Conv2d(width, channels, 1)})

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed["proj"](x)


class SwinUNet(nn.Module):
    """(B, 3, H, W) noisy latent, (B,) times, (B, 3, H, W) low-resolution image → (B, 3, H, W); sides multiples of 64."""

    def __init__(self, into: int, out: int, widths: tuple[int, ...], swin: tuple[int, int, int, int]) -> None:
        super().__init__()
        embedding = 4 * widths[0]
        self.width = widths[0]
        self.time_embed = nn.Sequential(nn.Linear(self.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(into, self.width, 3, padding=1)])])
        channels, kept = self.width, [self.width]
        for level, width in enumerate(widths):
            for i in range(BLOCKS):
                attention = [] if i else [Swin(width, *swin, NOMINAL >> level)]
                self.input_blocks.append(nn.ModuleList([Modulated(channels, width, embedding), *attention]))
                channels = width
                kept.append(channels)
            if level < LEVELS - 1:
                self.input_blocks.append(nn.ModuleList([Resized(channels, up=False)]))
                kept.append(channels)
        self.middle_block = nn.ModuleList(
            [Modulated(channels, channels, embedding), Swin(channels, *swin, NOMINAL >> (LEVELS - 1)),
             Modulated(channels, channels, embedding)]
        )  # fmt: skip
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for i in range(BLOCKS + 1):
                attention = [] if i else [Swin(width, *swin, NOMINAL >> level)]
                above = [Resized(width, up=True)] if level and i == BLOCKS else []
                blocks = [Modulated(channels + kept.pop(), width, embedding), *attention, *above]
                self.output_blocks.append(nn.ModuleList(blocks))
                channels = width
        self.out = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))

    def forward(self, latent: torch.Tensor, times: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        from diffusers.models.embeddings import get_timestep_embedding

        sines = get_timestep_embedding(times, self.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        embedding = self.time_embed(sines.to(latent.dtype))
        x, kept = torch.cat([latent, image], 1), []
        for blocks in self.input_blocks:
            x = _through(blocks, x, embedding)
            kept.append(x)
        x = _through(self.middle_block, x, embedding)
        for blocks in self.output_blocks:
            x = _through(blocks, torch.cat([x, kept.pop()], 1), embedding)
        return self.out(x)


def _through(blocks: Any, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        x = block(x, embedding)
    return x


def swin_unet(state: Mapping[str, torch.Tensor]) -> SwinUNet:
    """The network that tensors in official names belong to, not yet filled. KeyError if they are none."""
    widths = tuple(state[f"input_blocks.{3 * level + 1}.0.out_layers.3.weight"].shape[0] for level in range(LEVELS))
    first = "input_blocks.1.1.blocks.0."
    positions, heads = state[f"{first}attn.relative_position_bias_table"].shape
    hidden, width = state[f"{first}mlp.fc1.weight"].shape[:2]
    swin = (width, heads, (math.isqrt(positions) + 1) // 2, hidden)
    return SwinUNet(state["input_blocks.0.0.weight"].shape[1], state["out.2.weight"].shape[0], widths, swin)


def shift_mask(height: int, width: int, window: int, shift: int) -> torch.Tensor:
    """What moved windows must not see, −100: float32 (windows, positions, positions).

    The network was trained with labels for bands of rows only, and with each window's labels transposed: kept as it is.
    """
    rows = torch.zeros(height)
    rows[-window:-shift], rows[-shift:] = 1, 2
    labels = rows.reshape(-1, 1, window, 1).expand(-1, width // window, window, window)
    flat = labels.transpose(2, 3).reshape(-1, window * window)
    return (flat[:, None] != flat[:, :, None]) * MASKED


def _relative_positions(window: int) -> torch.Tensor:
    """Which entry of the bias table a pair of positions takes: int64 (window², window²)."""
    places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    rows, columns = places[:, :, None] - places[:, None] + window - 1
    return rows * (2 * window - 1) + columns
