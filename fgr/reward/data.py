"""Batches of aligned crops of samples and their labels, the same order after a resumption."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from fgr.dataset import cells
from fgr.images import codec
from fgr.reward import mined
from fgr.reward.planting import Planter

IMAGES = ("reference", "composite", "sr")
HUMAN = ("human_score", "human_weight", "human_map_weight")
PLANTED = ("planted", "planted_on_sr", "steady")
AIMED = 0.75  # share of the crops that are aimed at a pixel of the mask; the others fall anywhere
Draw = tuple[int, int]  # row, seed
Distortion = Callable[[np.ndarray, float, np.random.Generator], Any]  # image, level in [0, 1], randomness


class Samples(Dataset):
    """Crops of rows by (row, seed). Decoded rows are kept in memory up to `cache_bytes`.

    An item: `reference`, `composite`, `sr` and, if asked for, `distorted`, uint8 (3, C, C); `target`, `mask` and, where the
    dataset has `sr_map`, `sr_target`, float32 (1, C, C); `human_map` float32 (1, C, C) with weight `human_map_weight`;
    `human_score` in [0, 1] with `human_weight`, 0 where a crop is not the whole image. `crop` 0 gives whole images.

    With a `planter` some composites give way to planted images, with their labels, and every item has `planted_map`, float32
    (1, C, C), and the numbers `planted`, `planted_on_sr` and `steady`, 0 or 1 (see `Planting`). A share of the draws may be of
    mined rows (see `mined.decoded`) in the place of the dataset's; these come with a planter.
    """

    def __init__(
        self,
        rows: Any,
        crop: int,
        flips: bool = False,
        consensus: Mapping[str, Mapping[str, Any]] | None = None,
        cache_bytes: int = 0,
        distorted: bool = False,
        planter: Planter | None = None,
        mined_rows: Sequence[mined.Row] = (),
        mined_share: float = 0.0,
    ) -> None:
        self.rows, self.crop, self.flips, self.distorted, self.planter = rows, crop, flips, distorted, planter
        self.mined, self.mined_share = mined_rows, mined_share
        self.consensus = consensus or {}
        self._room, self._kept = cache_bytes, dict[int, dict[str, Any]]()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        index, seed = draw
        rng = np.random.default_rng(seed)
        if self.mined and rng.random() < self.mined_share:
            row = self.mined[int(rng.integers(len(self.mined)))]
            return self.cut(mined.decoded(row, turned=bool(rng.integers(2))), rng)
        return self.cut(self._decoded(index), rng)

    def cut(self, sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """A crop of a decoded sample, everything cut, mirrored and turned alike."""
        arrays = {name: value for name, value in sample.items() if isinstance(value, np.ndarray)}
        if self.crop:
            rows, columns = window(arrays["mask"], self.crop, rng)
            arrays = {name: array[rows, columns] for name, array in arrays.items()}
        if self.flips:
            arrays = turned(arrays, rng)
        if self.distorted:
            arrays["distorted"] = distorted_globally(arrays["reference"], rng)
        numbers = {name: sample[name] for name in (*HUMAN, *PLANTED) if name in sample}  # mined rows are planted from the start
        whole = arrays["mask"].size == sample["mask"].size  # as a score is
        numbers["human_weight"] = sample["human_weight"] * whole
        if self.planter and "planted" not in sample:
            planting = self.planter(arrays, rng)
            arrays |= planting.arrays
            numbers |= dict(zip(PLANTED, planting[1:], strict=True))
            if planting.planted:  # people's labels are of the composite that gave way
                numbers |= {"human_weight": 0.0, "human_map_weight": 0.0}
        item: dict[str, Any] = {name: np.ascontiguousarray(_channels_first(array)) for name, array in arrays.items()}
        for name in item.keys() & {"target", "sr_target", "planted_map"}:
            item[name] = item[name].astype(np.float32) / np.float32(65535)
        for name in ("mask", "human_map"):
            item[name] = item[name].astype(np.float32) / np.float32(255)
        return item | {name: np.float32(value) for name, value in numbers.items()}

    def composites(self, rows: Sequence[int], seed: int) -> list[np.ndarray]:
        """The composites of several rows, uint8 (3, C, C), cut, mirrored and turned alike: the same place of each."""
        rng, decoded = np.random.default_rng(seed), [self._decoded(row) for row in rows]
        arrays = {str(number): sample["composite"] for number, sample in enumerate(decoded)}
        if self.crop:
            place = window(np.maximum.reduce([sample["mask"] for sample in decoded]), self.crop, rng)
            arrays = {name: array[place] for name, array in arrays.items()}
        arrays = turned(arrays, rng) if self.flips else arrays
        return [np.ascontiguousarray(_channels_first(array)) for array in arrays.values()]

    def _decoded(self, index: int) -> dict[str, Any]:
        if index not in self._kept:
            sample = self.decode(self.rows[index])
            size = sum(value.nbytes for value in sample.values() if isinstance(value, np.ndarray))
            if size > self._room:
                return sample
            self._room -= size
            self._kept[index] = sample
        return self._kept[index]

    def decode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of a row: RGB and mask as uint8, the targets as uint16, people's labels where there are any."""
        sample: dict[str, Any] = {name: cells.pixels(row, name) for name in IMAGES}
        sample["mask"] = cells.pixels(row, "mask")
        for name, column in (("target", "degradation_map"), ("sr_target", "sr_map")):
            if column in row:  # datasets of earlier versions have no sr_map
                sample[name] = cells.pixels(row, column, codec.decode_words)
        human = self.consensus.get(row["id"])
        if human is None:
            empty = np.zeros_like(sample["mask"])
            return sample | {"human_map": empty, "human_score": 0.0, "human_weight": 0.0, "human_map_weight": 0.0}
        weight = float(human["agreement"] if human["agreement"] is not None and human["raters"] > 1 else 0.5)
        return sample | {
            "human_map": cells.pixels(human, "degradation_map", codec.decode_mask), "human_score": human["score_mean"] / 100,
            "human_weight": 1.0, "human_map_weight": weight,
        }  # fmt: skip


class Pairs(Dataset):
    """Pairs of composites that people chose between, by (pair, seed): `left` and `right`, uint8 (3, C, C), are the same place of
    both; and `choice`."""

    def __init__(self, samples: Samples, pairs: Sequence[tuple[int, int, float]]) -> None:
        self.samples, self.pairs = samples, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        left, right, choice = self.pairs[draw[0]]
        sides = self.samples.composites((left, right), draw[1])
        return {"left": sides[0], "right": sides[1], "choice": np.float32(choice)}


class Draws(Sampler):
    """Batches of (row, seed) from step `start` on: what a batch holds depends on seed, step and process alone."""

    def __init__(
        self, count: int, batch: int, seed: int, steps: int, start: int = 0, accumulate: int = 1, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.range, self.part = range(start * accumulate, steps * accumulate), part

    def __len__(self) -> int:
        return len(self.range)

    def __iter__(self) -> Iterator[list[Draw]]:
        rank, world = self.part
        epoch = -1
        order: np.ndarray = np.zeros(0, int)
        for number in self.range:
            drawn: list[Draw] = []
            for place in range(self.batch):
                position = (number * world + rank) * self.batch + place
                if position // self.count != epoch:
                    epoch = position // self.count
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
                drawn.append((int(order[position % self.count]), _seed(self.seed, position)))
            yield drawn


class Stream(IterableDataset):
    """Crops of a streamed dataset, in the same order every time; `skip` rows are passed over without decoding."""

    def __init__(self, samples: Samples, seed: int, skip: int, part: tuple[int, int], buffer: int = 256) -> None:
        from datasets.distributed import split_dataset_by_node

        self.samples, self.seed, self.skip = samples, seed, skip
        self.rows = split_dataset_by_node(samples.rows, *part).shuffle(seed=seed, buffer_size=buffer)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        position = epoch = 0
        while True:
            self.rows.set_epoch(epoch)
            for row in self.rows:
                if position >= self.skip:
                    yield self.samples.cut(self.samples.decode(row), np.random.default_rng(_seed(self.seed, position)))
                position += 1
            epoch += 1


def loader(samples: Dataset, draws: Draws, workers: int, streaming: bool = False) -> DataLoader:
    """Batches of `samples` as `draws` says: dicts of tensors (B, …)."""
    if streaming and isinstance(samples, Samples):
        stream = Stream(samples, draws.seed, draws.range.start * draws.batch, draws.part)
        return DataLoader(stream, batch_size=draws.batch, num_workers=min(workers, 1))
    return DataLoader(samples, batch_sampler=draws, num_workers=workers, pin_memory=torch.cuda.is_available())


def window(mask: np.ndarray, crop: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where to cut a crop: most times around a random pixel of the mask, otherwise anywhere."""
    limits = [side - crop for side in mask.shape]
    corner = [int(rng.integers(limit + 1)) for limit in limits]
    if rng.random() < AIMED and (places := np.flatnonzero(mask)).size:
        pixel = divmod(int(places[rng.integers(places.size)]), mask.shape[1])
        corner = [int(np.clip(at - rng.integers(crop), 0, limit)) for at, limit in zip(pixel, limits, strict=True)]
    return slice(corner[0], corner[0] + crop), slice(corner[1], corner[1] + crop)


def turned(arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All arrays (H, W, …) in one of the eight orientations."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    return {name: np.rot90(array[:, ::-1] if mirror else array, turns) for name, array in arrays.items()}


def _channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 0, 1) if array.ndim == 3 else array[None]


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _blur(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 0.3 + 3 * level)


def _noise(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 1 + 30 * level, image.shape), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, level: float, rng: np.random.Generator) -> Any:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, round(95 - 85 * level)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _resize(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    factor = 1 + 5 * level
    small = cv2.resize(image, (max(1, round(width / factor)), max(1, round(height / factor))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _sharpen(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.addWeighted(image, 1 + 4 * level, cv2.GaussianBlur(image, (0, 0), 1.5), -4 * level, 0)


DISTORTIONS: dict[str, Distortion] = {"blur": _blur, "noise": _noise, "jpeg": _jpeg, "resize": _resize, "sharpen": _sharpen}


def distorted_globally(image: np.ndarray, rng: np.random.Generator) -> Any:
    """The uint8 (H, W, 3) image under one global distortion of a random kind and level, for the student of S_base."""
    name = sorted(DISTORTIONS)[rng.integers(len(DISTORTIONS))]
    return DISTORTIONS[name](np.ascontiguousarray(image), float(rng.random()), rng)
