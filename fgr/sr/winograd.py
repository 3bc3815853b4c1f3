"""RRDBNet's dense blocks by Winograd's F(4×4, 3×3) on the CPU: fewer multiplications, faster.

A 6×6 patch of the input gives a 4×4 patch of the output: both are transformed by small constant matrices, and between the
transforms a 3×3 convolution is 36 products of matrices (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks,
2016). In a dense block each convolution reads all channels before it, so a channel that is transformed once serves all of
them. In float32 the result differs from direct convolution by some 1e-6 of its size: after rounding, by 1 of 255 here and there.
The environment variable FGR_WINOGRAD=0 leaves every block as it is; rows are replayed as they were made.
"""

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from spandrel.architectures.__arch_helpers.block import ResidualDenseBlock_5C
from torch.nn import functional

OUT, PATCH = 4, 6  # sides of a patch of the output and of the input
TILES = 256  # patches transformed at a time: their matrices stay in the processor's cache
LARGEST = 256 * 256  # pixels: above, the transformed channels would take more memory than they are worth
FLAG = "FGR_WINOGRAD"

INPUT: list[list[float]] = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
          [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]  # fmt: skip
KERNEL: list[list[float]] = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
           [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]  # fmt: skip
OUTPUT: list[list[float]] = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def speed_up(model: torch.nn.Module) -> int:
    """Let the model's dense blocks run by Winograd's method where they can; the number of blocks changed.

    For float32 on the CPU and inference alone.
    """
    if os.environ.get(FLAG) == "0":
        return 0
    room = _Room()
    changed = 0
    for parent in list(model.modules()):
        for name, block in list(parent.named_children()):
            if type(block) is ResidualDenseBlock_5C and (convs := _convolutions(block)):
                setattr(parent, name, DenseBlock(block, convs, room))
                changed += 1
    return changed


def _convolutions(block: Any) -> list[torch.nn.Conv2d]:
    """The block's five convolutions; none if it is of another kind than RRDBNet's usual one."""
    if getattr(block, "conv1x1", None) is not None:
        return []
    parts = [part for i in range(1, 6) for part in getattr(block, f"conv{i}").modules() if not list(part.children())]
    if [type(part) for part in parts] != [torch.nn.Conv2d, torch.nn.LeakyReLU] * 4 + [torch.nn.Conv2d]:
        return []  # other layers, or these in another order
    convs, acts = parts[::2], parts[1::2]
    plain = all(
        conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1) and conv.groups == 1
        and conv.bias is not None and conv.padding_mode == "zeros" and conv.dilation == (1, 1) for conv in convs
    )  # fmt: skip
    return convs if plain and all(act.negative_slope == 0.2 for act in acts) else []


class DenseBlock(torch.nn.Module):
    """A dense block with the weights of `direct`: float32 (1, C, H, W) → the same shape."""

    def __init__(self, direct: torch.nn.Module, convs: list[torch.nn.Conv2d], room: "_Room") -> None:
        super().__init__()
        self.direct, self.room = direct, room
        self._convs = tuple(convs)  # a tuple, so that they are not modules twice
        for conv in convs:  # the same weights, in the order (3, 3, in, out) that makes their transform one product
            conv.weight.data = conv.weight.data.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1 or x.shape[2] * x.shape[3] > LARGEST:
            return self.direct(x)  # type: ignore[no-any-return]
        room = self.room.fit(x.shape[2], x.shape[3], [conv.in_channels for conv in self._convs], self._convs[-1].out_channels)
        inputs = x[0].permute(1, 2, 0)
        height, width, _ = inputs.shape
        room.first[1 : height + 1, 1 : width + 1] = inputs
        result = torch.empty_like(inputs)
        source, done = room.first, 0
        for conv in self._convs:
            kernels = torch.mm(room.kernel_side, conv.weight.permute(2, 3, 1, 0).reshape(9, -1))
            kernels = kernels.view(PATCH**2, conv.in_channels, conv.out_channels)
            for band in room.bands:
                room.enter(band, source, done)
            source, done = room.grown, conv.in_channels
            for band in room.bands:
                top, end = band.first * OUT, band.stop * OUT
                if conv is not self._convs[-1]:
                    functional.leaky_relu_(room.leave(band, kernels, conv.bias, room.grown[1 + top : 1 + end, 1:-1]), 0.2)
                    continue
                made = room.leave(band, kernels, conv.bias, room.last[: end - top])
                rows = slice(top, min(end, height))
                torch.add(inputs[rows], made[: rows.stop - top, :width], alpha=0.2, out=result[rows])
            room.grown[height + 1 :], room.grown[:, width + 1 :] = 0, 0  # beyond the image
        return result.permute(2, 0, 1)[None]


@dataclass(slots=True)
class _Band:
    """Rows of patches first…stop and their transformed channels: (36, patches, channels)."""

    first: int
    stop: int
    channels: torch.Tensor


@dataclass(slots=True)
class _Room:
    """What the blocks of a network work in, one after the other.

    Images lie in (rows, columns, channels): `first` and `grown` whole, with a rim of zeros, `last` a band of one.
    """

    size: tuple[int, ...] = ()
    width: int = 0  # patches a row
    bands: list[_Band] = field(default_factory=list)
    first: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    grown: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    last: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    one: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    two: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    input_side: torch.Tensor = field(default_factory=lambda: _both_axes(INPUT))
    kernel_side: torch.Tensor = field(default_factory=lambda: _both_axes(KERNEL))
    output_side: torch.Tensor = field(default_factory=lambda: _both_axes(OUTPUT))

    def fit(self, height: int, width: int, read: list[int], made: int) -> "_Room":
        """Make room for an image of that size whose convolutions read and, the last one, make so many channels."""
        if self.size == (height, width, *read, made):
            return self
        self.size = (height, width, *read, made)
        rows, self.width = -(-height // OUT), -(-width // OUT)
        step = max(1, TILES // self.width)
        starts = [(start, min(start + step, rows)) for start in range(0, rows, step)]
        self.bands = [_Band(a, b, torch.empty(PATCH**2, (b - a) * self.width, read[-1])) for a, b in starts]
        rim = (rows * OUT + 2, self.width * OUT + 2)
        channels = read[0], read[1] - read[0], made
        self.first, self.grown = torch.zeros(*rim, channels[0]), torch.zeros(*rim, channels[1])
        self.last = torch.empty(step * OUT, self.width * OUT, made)
        most = PATCH**2 * step * self.width * max(channels)
        self.one, self.two = torch.empty(most), torch.empty(most)
        return self

    def enter(self, band: _Band, source: torch.Tensor, at: int) -> None:
        """Transform a band of an image's channels into the band's channels from `at` on."""
        rows, count = band.stop - band.first, source.shape[2]
        line = source.shape[1] * count
        patches = source[band.first * OUT :].as_strided(
            (PATCH, PATCH, rows, self.width, count), (line, count, OUT * line, OUT * count, 1)
        )
        gathered = self.one[: patches.numel()].view(patches.shape)
        gathered.copy_(patches)
        flat = self.two[: patches.numel()].view(PATCH**2, -1)
        torch.mm(self.input_side, gathered.view(PATCH**2, -1), out=flat)
        band.channels[:, :, at : at + count] = flat.view(PATCH**2, -1, count)

    def leave(self, band: _Band, kernels: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor) -> torch.Tensor:
        """Convolve a band's channels into its rows of an image, which are given back."""
        (_, read, made), patches = kernels.shape, band.channels.shape[1]
        products = self.one[: PATCH**2 * patches * made].view(PATCH**2, patches, made)
        torch.bmm(band.channels[:, :, :read], kernels, out=products)
        flat = self.two[: OUT**2 * patches * made].view(OUT**2, -1)
        torch.mm(self.output_side, products.view(PATCH**2, -1), out=flat)
        rows = band.stop - band.first
        image = flat.view(OUT, OUT, rows, self.width, made).permute(2, 0, 3, 1, 4)
        assert bias is not None
        torch.add(image, bias, out=target.view(rows, OUT, self.width, OUT, made))
        return target


def _both_axes(rows: list[list[float]]) -> torch.Tensor:
    """The matrix that applies `rows` along both axes of a patch written as one column."""
    side = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(side, side).float()
