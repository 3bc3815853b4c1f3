"""What memory allows: images through a network in batches and tiles, smaller ones where it runs out."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import devices
from fgr.errors import UserError
from fgr.images import tiles

PROBE = 64  # side in pixels of the input whose activations are counted
SLACK = 1.5  # residuals and temporaries beside the largest layer's input and output; measured: 1.1 for RRDBNet and SRVGG
SHARE = 0.5  # of the memory
CUDA_SHARE = 0.8  # of what is free on a GPU: kernels' workspaces and the memory's pieces take some
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")

Seat = tuple[int, int]  # place in a batch, and the batch's size
Forward = Callable[[np.ndarray], np.ndarray]  # uint8 (n, h, w, 3) → (n, h·scale, w·scale, 3)


@dataclass(frozen=True, slots=True)
class Ran:
    """How an image went through a network: in tiles or whole (0), in a batch of which size, at which place in it."""

    tile: int
    batch: int
    place: int


class MemoryFit:
    """Runs images through a network in the batches and tiles that are asked for, or in smaller ones that memory allows.

    `tile` (0 = whole images), `overlap`, `multiple` and `smallest` are sides in low-resolution pixels: a tile is a multiple of
    `multiple` and at least `smallest` and twice the overlap. On the CPU, where running out of memory is no exception but the end
    of the process, inputs have at most `room` pixels (None: not known), and images run one at a time, so that their bytes do not
    depend on their neighbours. On CUDA the room is measured by a small input before the first images run. Elsewhere an image's
    bits depend on the size of its batch and on its place, by the kernels that are chosen: batches have the size asked for or a
    half, a quarter … of it, the rest is filled up, and `made` says both. UserError for a tile that is too small.
    """

    def __init__(
        self, name: str, device: torch.device, scale: int, *, tile: int, overlap: int, batch: int, multiple: int, smallest: int,
        room: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.device, self.scale, self.overlap, self.multiple = name, device, scale, overlap, multiple
        self.smallest = max(smallest, 2 * overlap)
        self.batch = 1 if devices.one_by_one(device.type) else batch
        self.tile = self._expect_tile(tile)
        self.room = room
        self._probed = device.type != "cuda"
        self._known: dict[tuple[int, int], tuple[int, int]] = {}  # image size → batch and tile that memory allowed
        self._last: list[Ran] = []

    def made(self, index: int) -> dict[str, int]:
        """How image `index` of the last run was made: tile, and off the CPU batch and place."""
        ran = self._last[index] if self._last else Ran(self.tile, self.batch, 0)
        if self.batch == 1 and devices.one_by_one(self.device.type):
            return {"tile": ran.tile}
        return {"tile": ran.tile, "batch": ran.batch, "place": ran.place}

    def run(
        self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, seats: Sequence[Seat | None] = ()
    ) -> list[np.ndarray]:
        """The images' outputs, uint8, all with one tile size: the one asked for, or what fits the largest image.

        `in_tiles` gives float32 in [0, 1] for tiles, `whole` uint8 for whole images. Where all have `seats`, each runs in a batch
        of that size at that place, beside copies of itself. UserError if the smallest tiles do not fit.
        """
        seated = bool(seats) and all(seats)
        groups = [([image], seat) for image, seat in zip(images, seats, strict=True)] if seated else [(images, None)]
        results: list[np.ndarray] = []
        ran: list[Ran] = []
        for group, seat in groups:
            results += self._run(group, in_tiles, whole, seat)
            ran += self._last
        self._last = ran
        return results

    def _run(self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, seat: Seat | None) -> list[np.ndarray]:
        size = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
        self._probe(images[0], whole)
        batch, tile = self._known.get(size) or self._first(size)
        if seat is not None:
            batch = min(batch, seat[1])
        while (results := self._attempt(images, in_tiles, whole, batch, tile, seat)) is None:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            batch, tile = self._smaller(batch, tile, max(size))
            self._known[size] = batch, tile
        return results

    def _probe(self, image: np.ndarray, whole: Forward) -> None:
        """Measure on CUDA, once, how many pixels there is room for, with a corner of the image."""
        if self._probed:
            return
        self._probed = True
        side = max(PROBE, self.smallest) // self.multiple * self.multiple
        corner = image[:side, :side]
        with contextlib.suppress(RuntimeError):  # whatever is wrong is found and said with the image itself
            self.room = cuda_room(self.device, lambda: whole(corner[None]), corner.shape[0] * corner.shape[1])

    def _first(self, size: tuple[int, int]) -> tuple[int, int]:
        batch, tile = self.batch, self.tile
        while self.room and batch * min(tile or size[0], size[0]) * min(tile or size[1], size[1]) > self.room:
            batch, tile = self._smaller(batch, tile, max(size))
        return batch, tile

    def _attempt(
        self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, batch: int, tile: int, seat: Seat | None
    ) -> list[np.ndarray] | None:
        """None when memory runs out: returned, not raised, for a traceback would keep the activations alive."""
        self._last = []
        try:
            return list(self._pieces(images, in_tiles, whole, batch, tile, seat))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _pieces(
        self, images: list[np.ndarray], in_tiles: Forward, whole: Forward, batch: int, tile: int, seat: Seat | None
    ) -> Iterator[np.ndarray]:
        start = 0
        while start < len(images):
            image = images[start]
            if tile and max(image.shape[:2]) > tile:
                self._last.append(Ran(tile, batch, 0))
                yield tiles.upscale(image, in_tiles, self.scale, tile, self.overlap, batch)
                start += 1
                continue
            alike = [image]
            while len(alike) < batch and start + len(alike) < len(images) and images[start + len(alike)].shape == image.shape:
                alike.append(images[start + len(alike)])
            place, filled = (min(seat[0], batch - 1), batch) if seat else (0, _filled(len(alike), batch))
            self._last += [Ran(tile, filled, place + i) for i in range(len(alike))]
            row = [alike[0]] * place + alike
            yield from whole(np.stack(row + [alike[-1]] * (filled - len(row))))[place : place + len(alike)]
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


def _filled(count: int, batch: int) -> int:
    """The size of the batch that `count` images run in: `batch`, or its half, quarter … that still holds them."""
    while batch // 2 >= count:
        batch //= 2
    return batch


def cuda_room(device: torch.device, run: Callable[[], Any], pixels: int) -> int:
    """Input pixels that a CUDA device has room for at once, by what `run`, of so many pixels, takes of it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    taken = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return int(CUDA_SHARE * torch.cuda.mem_get_info(device)[0] / max(taken / pixels, 1))


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
