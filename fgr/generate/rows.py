"""What needs no device: degrading references, making rows; beside it in threads or processes."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection, get_context, parent_process
from typing import Any

import cv2
import numpy as np

from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.generate import samples
from fgr.generate.plan import Reference, ReferencePlan
from fgr.generate.prefetch import Once, prefetch, thread_pool
from fgr.images import codec, degrade, difference
from fgr.recipe.generate import GenerateRecipe
from fgr.sr.jobs import Job

Row = dict[str, Any] | str  # a text is a drop's reason


@dataclass(frozen=True, slots=True)
class Degraded:
    """A degraded reference and the candidates that are to be made of it, for the shard `of` that name, or None."""

    of: str | None
    candidates: list[samples.Candidate]
    entry: Reference
    encoded: bytes
    reference: np.ndarray
    record: dict[str, Any]
    job: Job


@dataclass(frozen=True, slots=True)
class Restored:
    """What one SR model made of a degraded reference: `sr` is the reason of a drop where it made no image."""

    candidates: list[samples.Candidate]
    sr: np.ndarray | str
    settings: dict[str, Any]
    features: Any  # what the feature difference's device part gave


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What rows say of an SR model: the digest of its weights, and whether its inputs were made elsewhere."""

    digest: str
    external: bool


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes inputs of references and rows of restored images; picklable, so that other processes can do it.

    `compare` makes a map of features, `segments` gives those of a reference by its id and pixels, int32 (H, W). `hardware` is the
    worker's, where rows depend on it.
    """

    recipe: GenerateRecipe
    plan: ReferencePlan
    map_scale: float
    determinants: dict[str, Any]
    models: Mapping[str, ModelFacts]
    compare: Callable[[Any], np.ndarray]
    segments: Callable[[str, np.ndarray], np.ndarray]
    hardware: Mapping[str, Any] = field(default_factory=dict)

    def degraded(self, group: tuple[str | None, list[samples.Candidate]]) -> Degraded:
        """The reference of neighbouring candidates, read and degraded."""
        of, candidates = group
        first, recipe = candidates[0], self.recipe
        entry = self.plan.references[first.source_id]
        encoded = self.plan.read(entry)
        reference = codec.decode_rgb(encoded)
        rng = np.random.default_rng(samples.seed_of(recipe.seed, first.source_id, first.round))
        record = degrade.draw(recipe.degradation, rng, recipe.scale)
        size, box = (entry.photo_height, entry.photo_width), (entry.top, entry.left, len(reference))
        job = Job(degrade.apply(reference, record), entry.photo, size, box, reference)
        return Degraded(of, candidates, entry, encoded, reference, record, job)

    def pairs(self, finished: tuple[Degraded, Sequence[Restored]]) -> tuple[str | None, list[samples.Pair | str]]:
        """What the group is of, and for each candidate its reference and restored image with their differences."""
        degraded, restored = finished
        return degraded.of, [pair for one in restored for pair in [self._pair(degraded, one)] * len(one.candidates)]

    def rows(self, finished: tuple[Degraded, Sequence[Restored]]) -> tuple[str | None, list[Row]]:
        """What the group is of, and its rows, in the candidates' order within each model."""
        degraded, restored = finished
        segments = Once(partial(self.segments, degraded.entry.source_id, degraded.reference))
        return degraded.of, [row for one in restored for row in self._rows(degraded, one, segments)]

    def kind(self, one: samples.Candidate) -> str:
        """The kind of a candidate's mask."""
        return samples.mask_kind(self._seed(one), self.recipe.masks.kinds)

    def _seed(self, one: samples.Candidate) -> int:
        return samples.seed_of(self.recipe.seed, one.source_id, one.round, one.model, one.composite)

    def _pair(self, degraded: Degraded, restored: Restored) -> samples.Pair | str:
        if isinstance(restored.sr, str):
            return restored.sr
        feature, map_ = self.compare(restored.features), self.recipe.map
        return samples.make_pair(degraded.reference, restored.sr, feature, map_.pixel, map_.alpha, map_.smooth)

    def _rows(self, degraded: Degraded, restored: Restored, segments: Callable[[], np.ndarray]) -> list[Row]:
        pair = self._pair(degraded, restored)
        if isinstance(pair, str):
            return [pair] * len(restored.candidates)
        rows: list[Row] = []
        shared = self._shared(degraded, restored, pair)
        for candidate in restored.candidates:
            seed = self._seed(candidate)
            own = segments() if self.kind(candidate) == "semantic" else None
            sample = samples.make_sample(pair, seed, self.recipe, self.map_scale, own)
            rows.append("severity" if sample is None else self._row(sample, shared, seed))
        return rows

    def _shared(self, degraded: Degraded, restored: Restored, pair: samples.Pair) -> dict[str, Any]:
        """The columns that all rows of a restored image share."""
        model, entry = restored.candidates[0].model, degraded.entry
        facts = self.models[model]
        record = {"preset": "external"} if facts.external else degraded.record
        inference = restored.settings | ({"hardware": self.hardware} if self.hardware else {})
        return {
            "source_id": entry.source_id, "photo_id": entry.photo_id, "reference": degraded.encoded,
            "sr": codec.encode_rgb(pair.sr), "sr_map": codec.encode_map(difference.whole_map(pair.combined, self.map_scale)),
            "model": model, "model_digest": facts.digest, "scale": self.recipe.scale,
            "degradation": json.dumps(record, sort_keys=True), "inference": json.dumps(inference, sort_keys=True),
            "license": entry.license, "attribution": entry.attribution,
        }  # fmt: skip

    def _row(self, sample: samples.Sample, shared: dict[str, Any], seed: int) -> dict[str, Any]:
        row = shared | {
            "composite": codec.encode_rgb(sample.composite), "mask": codec.encode_mask(sample.mask),
            "degradation_map": codec.encode_map(sample.degradation_map), "score": sample.score, "mask_kind": sample.mask_kind,
            "mask_area": float(sample.mask.mean(dtype=np.float64) / 255), "pixel_difference": sample.pixel_difference,
            "feature_difference": sample.feature_difference, "seed": seed,
        }  # fmt: skip
        return row | {"id": manifest.row_id(row, self.determinants)}


Work = Callable[[str, Iterable[Any], int], Iterator[Any]]  # a method of RowMaker, its arguments, how many are under way at most


@contextmanager
def beside(maker: RowMaker, number: int, processes: bool) -> Iterator[Work]:
    """What does `maker`'s methods beside this thread, in so many threads or processes; for 0 in this thread itself.

    Results come in order. Python runs one thread at a time, so it is processes that keep more than a few cores at work.
    UserError, while results are read, if a process is killed.
    """
    with _executor(maker, number, processes) as executor:

        def work(method: str, items: Iterable[Any], depth: int) -> Iterator[Any]:
            call = partial(_call, method) if processes and number else getattr(maker, method)
            try:
                yield from prefetch(executor, call, items, depth)
            except BrokenProcessPool:
                raise worker_killed() from None

        yield work


@contextmanager
def _executor(maker: RowMaker, number: int, processes: bool) -> Iterator[Executor | None]:
    if not (processes and number):
        with thread_pool(number) as pool:
            yield pool
        return
    with ProcessPoolExecutor(number, get_context("spawn"), _start, (maker,)) as executor:
        yield executor


def worker_killed() -> UserError:
    """The error for a process of a run that something else ended."""
    return UserError(
        "A worker process was killed, perhaps because memory ran out.",
        "Run the same command again to continue from the last complete shard, with fewer --workers if it happens again.",
    )


_maker: RowMaker | None = None  # a process's


def _start(maker: RowMaker) -> None:
    global _maker
    _maker = maker
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run's own process ends these
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(method: str, item: Any) -> Any:
    return getattr(_maker, method)(item)
