"""Large images through an autoencoder in tiles, with normalisations that all tiles share.

Tiles pass through the layers side by side and wait in the host's memory: a normalisation takes its moments of all of them.
Convolutions see beyond a tile into its margins, which are cut off at the end; the attention sees a tile with its margins. The
scheme is the tiled VAE of multidiffusion-upscaler (Li Yi), which OSEDiff, SeeSR and others run.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional

FACTOR = 8  # of an image's side to its latent's
ENCODER_MARGIN, DECODER_MARGIN = 32, 11  # in pixels and in latent pixels, on each side of a tile
EVEN = (32, 16, 8, 4, 2)  # tiles' sides are made multiples of the first of these that the tile size allows

Tiles = list[torch.Tensor]  # each (B, C, h, w), of sizes of their own
Layer = Callable[..., torch.Tensor]


class Span(NamedTuple):
    """One axis of a tile: what its layers see, margins included, and what of that counts."""

    start: int
    stop: int
    kept_start: int
    kept_stop: int

    def outer(self, scaled: Callable[[int], int]) -> slice:
        """What counts, as a part of the whole output."""
        return slice(scaled(self.kept_start), scaled(self.kept_stop))

    def inner(self, scaled: Callable[[int], int]) -> slice:
        """What counts, as a part of the tile's output."""
        return slice(scaled(self.kept_start) - scaled(self.start), scaled(self.kept_stop) - scaled(self.start))


def tile_autoencoder(vae: Any, encoder_tile: int, decoder_tile: int) -> None:
    """Let an AutoencoderKL of diffusers encode in tiles of `encoder_tile` pixels, a multiple of 32, and decode in tiles of
    `decoder_tile` latent pixels, whatever is larger than a tile and its margins; 0 = always whole."""
    if encoder_tile:
        vae.encoder.forward = _tiled(vae.encoder, encoder_tile, ENCODER_MARGIN, SideBySide.encoded, lambda side: side // FACTOR)
    if decoder_tile:
        vae.decoder.forward = _tiled(vae.decoder, decoder_tile, DECODER_MARGIN, SideBySide.decoded, lambda side: side * FACTOR)


def spans(length: int, tile: int, margin: int) -> list[Span]:
    """As few tiles of at most `tile` as cover `length` without the margins at its ends, which belong to the outer tiles."""
    number = max(1, math.ceil((length - 2 * margin) / tile))
    side = _even(math.ceil((length - 2 * margin) / number), tile)
    found = []
    for start in (margin + i * side for i in range(number)):
        stop = min(start + side, length)
        kept = (start if start > margin else 0, stop if stop < length - margin else length)
        found.append(Span(max(0, start - margin), min(length, stop + margin), *kept))
    return found


def _even(side: int, tile: int) -> int:
    """`side` or the next multiple of a power of two up to `tile`."""
    rounded = (-(-side // divisor) * divisor for divisor in EVEN)
    return next((one for one in rounded if one <= tile), side)


def _tiled(
    network: Any, tile: int, margin: int, run: Callable[["SideBySide", Any, Tiles], Tiles], scaled: Callable[[int], int]
) -> Layer:
    """A forward pass of `network` that runs large inputs in tiles."""
    whole = network.forward

    def forward(x: torch.Tensor, *more: Any) -> torch.Tensor:
        height, width = x.shape[2:]
        if max(height, width) <= tile + 2 * margin:
            return whole(x, *more)
        places = [(row, column) for row in spans(height, tile, margin) for column in spans(width, tile, margin)]
        tiles = [x[:, :, row.start : row.stop, column.start : column.stop].cpu() for row, column in places]
        outputs = run(SideBySide(x.device), network, tiles)
        result = x.new_empty(*outputs[0].shape[:2], scaled(height), scaled(width), dtype=outputs[0].dtype)
        for (row, column), output in zip(places, outputs, strict=True):
            kept = output[:, :, row.inner(scaled), column.inner(scaled)]
            result[:, :, row.outer(scaled), column.outer(scaled)] = kept.to(x.device)
        return result

    return forward


class SideBySide:
    """Takes tiles through the layers of an AutoencoderKL's halves, one tile at a time on `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def encoded(self, encoder: Any, tiles: Tiles) -> Tiles:
        tiles = self._each(encoder.conv_in, tiles)
        for block in encoder.down_blocks:
            tiles = self._level(block.resnets, block.downsamplers, tiles)
        return self._last(encoder, self._middle(encoder.mid_block, tiles))

    def decoded(self, decoder: Any, tiles: Tiles) -> Tiles:
        tiles = self._middle(decoder.mid_block, self._each(decoder.conv_in, tiles))
        for block in decoder.up_blocks:
            tiles = self._level(block.resnets, block.upsamplers, tiles)
        return self._last(decoder, tiles)

    def _level(self, resnets: Any, resizes: Any, tiles: Tiles) -> Tiles:
        for block in resnets:
            tiles = self._residual(block, tiles)
        for resize in resizes or ():
            tiles = self._each(resize, tiles)
        return tiles

    def _middle(self, block: Any, tiles: Tiles) -> Tiles:
        tiles = self._residual(block.resnets[0], tiles)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            normal = self._normalisation(attention.group_norm, tiles)
            tiles = self._each(lambda x, attention=attention, normal=normal: x + _attended(attention, normal(x)), tiles)
            tiles = self._residual(resnet, tiles)
        return tiles

    def _residual(self, block: Any, tiles: Tiles) -> Tiles:
        normal = self._normalisation(block.norm1, tiles)
        inner = self._each(lambda x: block.conv1(functional.silu(normal(x))), tiles)
        again = self._normalisation(block.norm2, inner)
        skip = block.conv_shortcut or torch.nn.Identity()
        return self._each(lambda x, within: skip(x) + block.conv2(functional.silu(again(within))), tiles, inner)

    def _last(self, network: Any, tiles: Tiles) -> Tiles:
        normal = self._normalisation(network.conv_norm_out, tiles)
        return self._each(lambda x: network.conv_out(functional.silu(normal(x))), tiles)

    def _normalisation(self, norm: torch.nn.GroupNorm, tiles: Tiles) -> Layer:
        """Group normalisation of a tile by the mean and the variance of each group that tiles have on average: by their sizes,
        margins included."""
        sizes = torch.tensor([one.shape[2] * one.shape[3] for one in tiles], dtype=torch.float32, device=self._device)
        shares = (sizes / sizes.sum())[:, None, None]
        moments = [
            torch.var_mean(one.to(self._device).float().unflatten(1, (norm.num_groups, -1)).flatten(2), dim=2, correction=0)
            for one in tiles
        ]  # each twice (B, groups)
        variance, mean = (
            (torch.stack(kind) * shares).sum(0).repeat_interleave(norm.num_channels // norm.num_groups, 1)
            for kind in zip(*moments, strict=True)
        )
        factor = norm.weight / (variance + norm.eps).sqrt()
        shift = norm.bias - mean * factor
        return lambda x: (x * factor[..., None, None] + shift[..., None, None]).to(x.dtype)

    def _each(self, layer: Layer, *tiles: Tiles) -> Tiles:
        return [layer(*(one.to(self._device) for one in place)).cpu() for place in zip(*tiles, strict=True)]


def _attended(attention: Any, x: torch.Tensor) -> torch.Tensor:
    flat = x.flatten(2).transpose(1, 2)
    query, key, value = (
        project(flat).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return attention.to_out[0](mixed).transpose(1, 2).reshape(x.shape)
