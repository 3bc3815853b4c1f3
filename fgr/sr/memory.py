"""What memory allows: images through a network in batches and tiles, smaller ones where it runs out."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr.errors import UserError
from fgr.images import tiles

PROBE = 64  # side in pixels of the input whose activations are counted
SLACK = 1.5  # residuals and temporaries beside the largest layer's input and output; measured: 1.1 for RRDBNet and SRVGG
SHARE = 0.5  # of the memory
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")

Forward = Callable[[np.ndarray], np.ndarray]  # uint8 (n, h, w, 3) → (n, h·scale, w·scale, 3)


class MemoryFit:
    """Runs images through a network in the batches and tiles that are asked for, or in smaller ones that memory allows.

    `tile` (0 = whole images), `overlap`, `multiple` and `smallest` are sides in low-resolution pixels: a tile is a multiple of
    `multiple` and at least `smallest` and twice the overlap. On the CPU, where running out of memory is no exception but the end
    of the process, inputs have at most `room` pixels (None: not known), and images run one at a time, so that their bytes do not
    depend on their neighbours. UserError for a tile that is too small.
    """

    def __init__(
        self, name: str, device: torch.device, scale: int, *, tile: int, overlap: int, batch: int, multiple: int, smallest: int,
        room: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.device, self.scale, self.overlap, self.multiple = name, device, scale, overlap, multiple
        self.smallest = max(smallest, 2 * overlap)
        self.batch = 1 if device.type == "cpu" else batch
        self.tile = self.last_tile = self._expect_tile(tile)
        self.room = room
        self._known: dict[tuple[int, int], tuple[int, int]] = {}  # image size → batch and tile that memory allowed

    def run(self, images: list[np.ndarray], in_tiles: Forward, whole: Forward) -> list[np.ndarray]:
        """The images' outputs, uint8, all with one tile size, `last_tile`: the one asked for, or what fits the largest image.

        `in_tiles` gives float32 in [0, 1] for tiles, `whole` uint8 for whole images. UserError if the smallest tiles do not fit.
        """
        size = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
        batch, tile = self._known.get(size) or self._first(size)
        while (results := self._attempt(images, in_tiles, whole, batch, tile)) is None:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            batch, tile = self._smaller(batch, tile, max(size))
            self._known[size] = batch, tile
        self.last_tile = tile
        return results

    def _first(self, size: tuple[int, int]) -> tuple[int, int]:
        batch, tile = self.batch, self.tile
        while self.room and min(tile or size[0], size[0]) * min(tile or size[1], size[1]) > self.room:
            batch, tile = self._smaller(1, tile, max(size))
        return batch, tile

    def _attempt(
        self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, batch: int, tile: int
    ) -> list[np.ndarray] | None:
        """None when memory runs out: returned, not raised, for a traceback would keep the activations alive."""
        try:
            return list(self._pieces(images, in_tiles, whole, batch, tile))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _pieces(self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, batch: int, tile: int) -> Iterator[np.ndarray]:
        start = 0
        while start < len(images):
            image = images[start]
            if tile and max(image.shape[:2]) > tile:
                yield tiles.upscale(image, in_tiles, self.scale, tile, self.overlap, batch)
                start += 1
                continue
            alike = [image]
            while len(alike) < batch and start + len(alike) < len(images) and images[start + len(alike)].shape == image.shape:
                alike.append(images[start + len(alike)])
            yield from whole(np.stack(alike))
            start += len(alike)

    def _smaller(self, batch: int, tile: int, side: int) -> tuple[int, int]:
        if batch > 1:
            return batch // 2, tile
        before = min(tile or side, side)
        half = before // 2 // self.multiple * self.multiple
        if half < self.smallest:
            raise UserError(
                f"{self.device} does not have enough memory for {self.name}, even with tiles of {before} pixels.",
                "Close other programs, start fewer workers, set inference.precision=fp16 on a GPU, or choose a smaller model.",
            )
        return 1, half

    def _expect_tile(self, tile: int) -> int:
        fitting = tile // self.multiple * self.multiple
        if tile and fitting < self.smallest:
            raise UserError(
                f"A tile of {tile} pixels is too small for {self.name} with an overlap of {self.overlap}.",
                f"Set tile to {-(-self.smallest // self.multiple) * self.multiple} or more, or to 0 for whole images.",
            )
        return fitting


def is_out_of_memory(error: Exception) -> bool:
    """Whether a failed forward pass ran out of memory, on any device."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in OUT_OF_MEMORY)


def pixels_that_fit(model: torch.nn.Module, scale: int) -> int | None:
    """Input pixels that a forward pass has room for in half of this machine's memory; None if that is not known."""
    total, layer = total_bytes(), _largest_layer(model)
    if total is None or layer is None:
        return None
    output = 3 * scale**2 * 8  # float32 on both sides of the way to uint8
    return int(SHARE * total / (SLACK * layer + output))


def total_bytes() -> int | None:
    """The machine's memory, or the control group's limit if that is lower; None where the system does not say."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return total
    return None


def _largest_layer(model: torch.nn.Module) -> float | None:
    """Bytes an input pixel of the largest input and output of a layer, counted without computing (on the meta device)."""
    largest = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [one for one in [*inputs, output] if isinstance(one, torch.Tensor)]
        largest = max(largest, sum(one.numel() * one.element_size() for one in tensors))

    kept = [(module, dict(vars(module))) for module in model.modules()]  # some forward passes move plain tensors to the input
    hooks = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    try:
        with torch.inference_mode():
            torch.func.functional_call(model, state, (torch.empty(1, 3, PROBE, PROBE, device="meta"),))
    except Exception:  # some architectures compute with real numbers inside; then nothing is known
        return None
    finally:
        for hook in hooks:
            hook.remove()
        for module, attributes in kept:
            vars(module).update(attributes)
    return largest / PROBE**2 or None
