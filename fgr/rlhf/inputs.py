"""What a policy is tuned and audited on: low-resolution inputs, with references where there are any.

A dataset's `degradation` column replays the inputs exactly; a folder holds real low-resolution images, without references.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from fgr.dataset import cells
from fgr.dataset.location import expect_dataset
from fgr.dataset.tables import evenly_drawn, parquet_files
from fgr.errors import UserError
from fgr.images import degrade
from fgr.images.arrays import as_tensor
from fgr.rlhf.input_folder import InputFolder, digest_of

# Low-resolution input uint8 (h, w, 3), and images (h·scale, w·scale, 3): the reference, its rival.
ImagePair = tuple[np.ndarray, ...]
Choice = tuple[tuple[int, str], tuple[int, str]]  # row and column of the winner, and of the loser
WHOLE = ("full", "sham")  # mask kinds whose composite is the SR image, or as good as the reference
EXTERNAL = "external"  # the preset of rows whose low-resolution input was made elsewhere


@dataclass(frozen=True)
class Batch:
    """float32 (B, 3, h, w) in [0, 1]; the references (B, 3, h·scale, w·scale) and the rivals they are preferred to, or None.

    What is drawn at random in a step follows from `number`, the batch's place in the run, and from the process `part` (I, N).
    """

    low: torch.Tensor
    reference: torch.Tensor | None
    rival: torch.Tensor | None = None
    number: int = 0
    part: tuple[int, int] = (0, 1)

    def drawn(self, draw: Callable[[tuple[int, ...]], torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
        """A random tensor of `shape` for this process: its part of what `draw(shape)` gives for all processes together."""
        rank, world = self.part
        return draw((world * shape[0], *shape[1:]))[rank * shape[0] : (rank + 1) * shape[0]]

    def to(self, device: torch.device) -> "Batch":
        """On `device`; on its way to CUDA by memory that a GPU reads by itself."""
        images: tuple[torch.Tensor | None, ...] = (self.low, self.reference, self.rival)
        if device.type == "cuda":
            images = tuple(one if one is None or one.is_cuda else one.pin_memory() for one in images)
        low, reference, rival = (None if one is None else one.to(device, non_blocking=True) for one in images)
        assert low is not None
        return Batch(low, reference, rival, self.number, self.part)


class Replayed:
    """The distinct degraded references of a dataset's split, by index. UserError for another scale or rows that cannot replay."""

    def __init__(self, data: str, split: str, scale: int, cache_bytes: int = 0) -> None:
        from fgr.reward import splits

        self.rows = splits.open_split(data, split)
        self._chosen = _distinct(self.rows, data, split, scale)
        self._room, self._kept = cache_bytes, dict[int, ImagePair]()
        self.side = splits.size_of(self.rows)[0]
        names, self._photographs = self.rows["id"][:], self.rows["photo_id"][:]  # lists: a column copies its table for every cell
        self.digest = digest_of([names[index] for index in self._chosen])

    def __len__(self) -> int:
        return len(self._chosen)

    def photograph(self, index: int) -> str:
        """The photograph that an input was cut from."""
        return str(self._photographs[self._chosen[index]])

    def __getitem__(self, index: int) -> ImagePair:
        if index not in self._kept:
            row = self.rows[self._chosen[index]]
            reference = cells.pixels(row, "reference")
            pair = degrade.apply(reference, json.loads(row["degradation"])), reference
            size = sum(image.nbytes for image in pair)
            if size > self._room:
                return pair
            self._room -= size
            self._kept[index] = pair
        return self._kept[index]

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        """Reference and composite of the split's rows, uint8 (H, W, 3), evenly over the split: no order is assumed."""
        order = np.random.default_rng(0).permutation(len(self.rows))
        for index in order.tolist():
            row = self.rows[index]
            yield {name: cells.pixels(row, name) for name in ("reference", "composite")}


class PreferencePairs:
    """What DPO learns from: pairs of a dataset's split by index, each (input, winner, loser).

    `kind` is `triplets`: reference before composite before SR image, of every row; or `preferences`: composites that people chose
    between, where both were made of one input. UserError: another scale, or no pair.
    """

    def __init__(self, kind: str, data: str, split: str, scale: int) -> None:
        from fgr.reward import splits

        self.rows = splits.open_split(data, split)
        if set(self.rows["scale"]) != {scale}:
            raise UserError(f"The dataset {data} is not of scale ×{scale}.", "Name a generator and a dataset of the same scale.")
        self._pairs = {"triplets": _triplets, "preferences": _preferences}[kind](self.rows, data)
        if not self._pairs:
            raise UserError(
                f"The split '{split}' of {data} has no pairs of the kind {kind}.",
                "Preferences count where both images were made of one input; algorithm.pairs=triplets takes the dataset's own.",
            )
        self.side = splits.size_of(self.rows)[0]
        names, self._photographs = self.rows["id"][:], self.rows["photo_id"][:]
        self.digest = digest_of([f"{names[a]} {x} {names[b]} {y}" for (a, x), (b, y) in self._pairs])

    def __len__(self) -> int:
        return len(self._pairs)

    def photograph(self, index: int) -> str:
        """The photograph that the winner was made of."""
        return str(self._photographs[self._pairs[index][0][0]])

    def __getitem__(self, index: int) -> ImagePair:
        winner, loser = self._pairs[index]
        row = self.rows[winner[0]]
        low = degrade.apply(cells.pixels(row, "reference"), json.loads(row["degradation"]))
        return low, *(cells.pixels(self.rows[place], column) for place, column in (winner, loser))


class Inputs(Protocol):
    """Pairs by index; `digest` says which they are."""

    digest: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> ImagePair: ...
    def photograph(self, index: int) -> str: ...


def open_inputs(data: str, split: str, scale: int, cache_mb: int = 0, crop: int = 0) -> Inputs:
    """The inputs of `data`: a folder of images of at least `crop` pixels, or a dataset directory or Hub id. UserError as the two
    say."""
    if (folder := expect_inputs(data)) is not None:
        return InputFolder(folder, split, crop)
    return Replayed(data, split, scale, cache_mb * 2**20)


def expect_inputs(data: str) -> Path | None:
    """The folder where `data` is one of low-resolution images, None where it is a dataset. UserError if it is neither."""
    folder = Path(data).expanduser()
    if folder.is_dir() and not any((folder / name).exists() for name in ("samples", ".fgr")) and not parquet_files(folder):
        return folder
    expect_dataset(data)
    return None


def batches(
    inputs: Inputs,
    scale: int,
    crop: int,
    batch: int,
    flips: bool,
    seed: int,
    start: int,
    stop: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Batches `start` … `stop` − 1 of crops: what batch n holds depends on n, the seed and the process `part` (I, N) alone."""
    rank, world = part
    epoch = -1
    order: np.ndarray = np.zeros(0, int)
    for number in range(start, stop):
        pairs = []
        for place in range(batch):
            position = (number * world + rank) * batch + place
            if position // len(inputs) != epoch:
                epoch = position // len(inputs)
                order = np.random.default_rng([seed, epoch]).permutation(len(inputs))
            rng = np.random.default_rng([seed, position, 1])
            pairs.append(cut(inputs[int(order[position % len(inputs)])], scale, crop, flips, rng))
        yield stacked(pairs, number, part)


def fixed(inputs: Inputs, scale: int, crop: int, count: int) -> list[ImagePair]:
    """`count` crops of as many photographs as there are, by turns (from fewer inputs: several of each), the same every time."""
    chosen = _spread(inputs, count)
    return [cut(inputs[place], scale, crop, False, np.random.default_rng([place, turn])) for place, turn in chosen]


def photographs(inputs: Inputs, count: int) -> list[str]:
    """The photograph of each of the crops that `fixed` gives."""
    return [inputs.photograph(place) for place, _ in _spread(inputs, count)]


def cut(pair: ImagePair, scale: int, crop: int, flips: bool, rng: np.random.Generator) -> ImagePair:
    """A crop of `crop` low-resolution pixels (0 = all), the reference cut, mirrored and turned alike.

    UserError for an image smaller than the crop.
    """
    low, *others = pair
    height, width = low.shape[:2]
    if crop:
        if min(height, width) < crop:
            raise UserError(
                f"The crops of {crop} pixels do not fit into the low-resolution images of {width}×{height}.",
                f"Set data.crop and audit.crop to {min(height, width)} or less, or to 0 for whole images.",
            )
        top, left = int(rng.integers(0, height - crop + 1)), int(rng.integers(0, width - crop + 1))
        low = low[top : top + crop, left : left + crop]
        rows, columns = (slice(at * scale, (at + crop) * scale) for at in (top, left))
        others = [image[rows, columns] for image in others]
    if flips:
        turns, mirror = int(rng.integers(0, 4)) if low.shape[0] == low.shape[1] else 0, bool(rng.integers(0, 2))
        low, *others = (_turned(image, turns, mirror) for image in (low, *others))
    return low, *others


def stacked(pairs: Sequence[ImagePair], number: int = 0, part: tuple[int, int] = (0, 1)) -> Batch:
    """A batch of pairs of one size. UserError for pairs of several sizes."""
    if len({pair[0].shape for pair in pairs}) > 1:
        raise UserError("The low-resolution images differ in size, so they cannot be batched.", "Set data.crop, or data.batch=1.")
    low, *others = (as_tensor(images) for images in zip(*pairs, strict=True))
    reference, rival = (*others, None, None)[:2]
    return Batch(low, reference, rival, number, part)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of images of one size as one."""
    columns = zip(*((one.low, one.reference, one.rival) for one in batches), strict=True)
    low, reference, rival = (None if images[0] is None else torch.cat(images) for images in columns)
    assert low is not None
    return Batch(low, reference, rival, batches[0].number)


def _spread(inputs: Inputs, count: int) -> list[tuple[int, int]]:
    """Input and turn of `count` crops, by turns from each photograph; from fewer inputs, several of each."""
    by_photograph: dict[str, list[int]] = {}
    for index in range(len(inputs)):
        by_photograph.setdefault(inputs.photograph(index), []).append(index)
    groups = list(by_photograph.values())
    if len(groups) > count:
        return [(groups[number][0], 0) for number in evenly_drawn(len(groups), count)]
    places = [group[turn] for turn in range(max(map(len, groups))) for group in groups if turn < len(group)]
    rounds = -(-count // len(places))
    return [(place, turn) for turn in range(rounds) for place in places][:count]


def _turned(image: np.ndarray, turns: int, mirror: bool) -> np.ndarray:
    image = np.rot90(image, turns)
    return np.ascontiguousarray(image[:, ::-1] if mirror else image)


def _distinct(rows: Any, data: str, split: str, scale: int) -> list[int]:
    scales = set(rows["scale"])
    if scales != {scale}:
        raise UserError(
            f"The dataset {data} is of scale {', '.join(f'×{one}' for one in sorted(scales))}, the generator upscales ×{scale}.",
            "Name a generator and a dataset of the same scale.",
        )
    first: dict[tuple[str, str], int] = {}
    for index, key in enumerate(zip(rows["source_id"], rows["degradation"], strict=True)):
        if json.loads(key[1])["preset"] != EXTERNAL:
            first.setdefault(key, index)
    if not first:
        raise UserError(
            f"No row of the split '{split}' of {data} can be degraded again: its low-resolution inputs were made elsewhere.",
            "Give those low-resolution images as a folder: --data FOLDER.",
        )
    return list(first.values())


def _triplets(rows: Any, data: str) -> list[Choice]:
    found: list[Choice] = []
    for index, (kind, record) in enumerate(zip(rows["mask_kind"], rows["degradation"], strict=True)):
        if json.loads(record)["preset"] == EXTERNAL:
            continue
        found.append(((index, "reference"), (index, "sr")))
        if kind not in WHOLE:
            found += [((index, "reference"), (index, "composite")), ((index, "composite"), (index, "sr"))]
    return found


def _preferences(rows: Any, data: str) -> list[Choice]:
    from fgr.reward import splits

    inputs = list(zip(rows["source_id"], rows["degradation"], strict=True))
    chosen = [pair for pair in splits.open_preferences(data, rows) if inputs[pair[0]] == inputs[pair[1]] and pair[2] != 0.5]
    ordered = [(left, right) if choice == 1.0 else (right, left) for left, right, choice in chosen]
    return [((winner, "composite"), (loser, "composite")) for winner, loser in ordered]
