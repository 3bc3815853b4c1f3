"""Makes the samples of a shard from plan and recipe, and writes it whole or not at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import manifest, tables
from fgr.errors import notice
from fgr.generate import samples
from fgr.generate.plan import Reference, ReferencePlan
from fgr.generate.prefetch import Once, batches, prefetch, thread_pool
from fgr.generate.segments import Segments
from fgr.generate.shards import OUTPUTS, UNREADABLE_OUTPUT, Shard, Tick, not_finite
from fgr.generate.workspace import Workspace
from fgr.image_files import ImageFileError
from fgr.images import codec, degrade, difference
from fgr.metrics.features import FeatureDifference
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import Job, NonFiniteOutput, Upscaler
from fgr.tensors import file_digest


@dataclass(frozen=True, slots=True)
class Models:
    """The open SR models of a recipe by their names, and what else may have weights."""

    upscalers: Mapping[str, Upscaler]
    features: FeatureDifference
    segments: Segments


@dataclass(frozen=True, slots=True)
class Degraded:
    """A degraded reference and the candidates that are to be made of it, for the owner `of` them: a shard, or None."""

    of: Any
    candidates: list[samples.Candidate]
    entry: Reference
    encoded: bytes
    reference: np.ndarray
    record: dict[str, Any]
    job: Job
    segments: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Restored:
    """What one SR model made of a degraded reference: `sr` is the reason of a drop where it made no image."""

    degraded: Degraded
    candidates: list[samples.Candidate]
    sr: np.ndarray | str
    settings: dict[str, Any]
    features: Any  # what the feature difference's device part gave


Row = dict[str, Any] | str  # a text is a drop's reason


@dataclass(slots=True)
class ShardMaker:
    """What a worker keeps between shards: the run's workspace and recipe, the plan, the open models, and the calibration.

    `batch` references of a shard are restored at a time. With `threads`, what needs no device is done by so many beside it:
    reading and degrading the references to come; differences, masks, encoding and writing of those before. The rows are the
    same with any number.
    """

    workspace: Workspace
    recipe: GenerateRecipe
    plan: ReferencePlan
    models: Models
    map_scale: float
    determinants: dict[str, Any]
    batch: int = 1
    threads: int = 0

    def make(self, shards: Iterable[Shard], tick: Tick) -> None:
        """Make shards and write each and then its state; both exist afterwards, or neither counts.

        The next shard is taken, with `threads`, while the last rows of one are still being made.
        """
        with thread_pool(min(self.threads, 1)) as writer:
            for _ in prefetch(writer, self._write, self._shard_rows(shards, tick), 1):
                pass

    def pairs(self, candidates: Iterable[samples.Candidate]) -> Iterator[samples.Pair | str]:
        """Every candidate's reference and restored image with their differences, or a drop's reason."""
        groups = ((None, group) for group in _by_degradation(candidates))
        flow = self._pipeline(groups, lambda one: [self._pair(one)] * len(one.candidates))
        return chain.from_iterable(pairs for _, pairs in flow)

    def _shard_rows(self, shards: Iterable[Shard], tick: Tick) -> Iterator[tuple[Shard, list[Row]]]:
        rows: list[Row] = []
        groups = ((shard, group) for shard in shards for group in _by_degradation(shard.candidates))
        for shard, some in self._pipeline(groups, self._rows):
            rows += some
            for row in some:
                tick(1, {row: 1} if isinstance(row, str) else {})
            if len(rows) == len(shard.candidates):
                yield shard, rows
                rows = []

    def _write(self, finished: tuple[Shard, list[Row]]) -> None:
        shard, everything = finished
        rows = [row for row in everything if not isinstance(row, str)]
        drops = Counter(row for row in everything if isinstance(row, str))
        path = self.workspace.out / "samples" / shard.name
        if rows:
            tables.write_table(path, "samples", rows)
        state = {"file": f"samples/{shard.name}", "split": shard.split, "rows": len(rows), "drops": dict(sorted(drops.items()))}
        if rows:
            state |= {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        self.workspace.finish_shard(shard, state)

    def _pipeline(
        self, groups: Iterable[tuple[Any, list[samples.Candidate]]], finish: Callable[[Restored], list[Any]]
    ) -> Iterator[tuple[Any, list[Any]]]:
        """Candidates through all stages: what each group is of, and what `finish` makes of it for each model.

        The device's stage is in this thread.
        """
        with thread_pool(self.threads) as pool:
            degraded = prefetch(pool, self._degrade, groups, self.batch + self.threads)
            restored = chain.from_iterable(map(self._restore, batches(degraded, self.batch, lambda one: id(one.of))))
            yield from prefetch(pool, lambda one: (one.degraded.of, finish(one)), restored, 4 * self.threads)

    def _degrade(self, group: tuple[Any, list[samples.Candidate]]) -> Degraded:
        of, candidates = group
        first, recipe = candidates[0], self.recipe
        entry = self.plan.references[first.source_id]
        encoded = self.plan.read(entry)
        reference = codec.decode_rgb(encoded)
        rng = np.random.default_rng(samples.seed_of(recipe.seed, first.source_id, first.round))
        record = degrade.draw(recipe.degradation, rng, recipe.scale)
        size, box = (entry.photo_height, entry.photo_width), (entry.top, entry.left, len(reference))
        job = Job(degrade.apply(reference, record), entry.photo, size, box, reference)
        segments = Once(partial(self._segments, first.source_id, reference))
        return Degraded(of, candidates, entry, encoded, reference, record, job, segments)

    def _restore(self, batch: list[Degraded]) -> list[Restored]:
        """Each SR model on all references that it is wanted for, then what else a device does; in the candidates' order."""
        restored: list[dict[str, Restored]] = [{} for _ in batch]
        for name in dict.fromkeys(one.model for degraded in batch for one in degraded.candidates):
            wanted = [i for i, degraded in enumerate(batch) if any(one.model == name for one in degraded.candidates)]
            upscaler = self.models.upscalers[name]
            results = upscaled(upscaler, name, [batch[i].job for i in wanted])
            for i, (sr, settings) in zip(wanted, results, strict=True):
                own = [one for one in batch[i].candidates if one.model == name]
                features = None if isinstance(sr, str) else self.models.features.extract(batch[i].reference, sr)
                restored[i][name] = Restored(batch[i], own, sr, settings, features)
        for degraded in batch if self.models.segments.slow else ():
            if any(self._kind(one) == "semantic" for one in degraded.candidates):
                degraded.segments()
        return [one for by_model in restored for one in by_model.values()]

    def _pair(self, restored: Restored) -> samples.Pair | str:
        if isinstance(restored.sr, str):
            return restored.sr
        feature, map_ = self.models.features.compare(restored.features), self.recipe.map
        return samples.make_pair(restored.degraded.reference, restored.sr, feature, map_.pixel, map_.alpha, map_.smooth)

    def _rows(self, restored: Restored) -> list[Row]:
        pair = self._pair(restored)
        if isinstance(pair, str):
            return [pair] * len(restored.candidates)
        rows: list[Row] = []
        shared = self._shared(restored, pair)
        for candidate in restored.candidates:
            segments = restored.degraded.segments() if self._kind(candidate) == "semantic" else None
            seed = self._seed(candidate)
            sample = samples.make_sample(pair, seed, self.recipe, self.map_scale, segments)
            rows.append("severity" if sample is None else self._row(sample, shared, seed))
        return rows

    def _seed(self, one: samples.Candidate) -> int:
        return samples.seed_of(self.recipe.seed, one.source_id, one.round, one.model, one.composite)

    def _kind(self, one: samples.Candidate) -> str:
        return samples.mask_kind(self._seed(one), self.recipe.masks.kinds)

    def _segments(self, source_id: str, reference: np.ndarray) -> np.ndarray:
        """The segments of a reference; those that take long are kept in the workspace for other rounds and workers."""
        segmenter = self.models.segments
        if not segmenter.slow:
            return segmenter.segments(reference)
        path = self.workspace.segments(source_id)
        if not path.is_file():
            atomic.write_bytes(path, codec.encode_labels(segmenter.segments(reference)))
        return codec.decode_labels(path.read_bytes())

    def _shared(self, restored: Restored, pair: samples.Pair) -> dict[str, Any]:
        """The columns that all rows of a restored image share."""
        model, entry = restored.candidates[0].model, restored.degraded.entry
        upscaler = self.models.upscalers[model]
        record = {"preset": "external"} if upscaler.external else restored.degraded.record
        return {
            "source_id": entry.source_id, "photo_id": entry.photo_id, "reference": restored.degraded.encoded,
            "sr": codec.encode_rgb(pair.sr), "sr_map": codec.encode_map(difference.whole_map(pair.combined, self.map_scale)),
            "model": model, "model_digest": upscaler.digest, "scale": self.recipe.scale,
            "degradation": json.dumps(record, sort_keys=True), "inference": json.dumps(restored.settings, sort_keys=True),
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


def upscaled(upscaler: Upscaler, name: str, jobs: list[Job]) -> list[tuple[np.ndarray | str, dict[str, Any]]]:
    """The restored images, and how each was made.

    In place of an image the reason of a drop for those whose values are not finite, and for outputs made elsewhere that are
    missing, of a wrong size or cannot be read, which are named. Both are found one by one.
    """
    try:
        return [(image, upscaler.settings(index)) for index, image in enumerate(upscaler.upscale(jobs))]
    except (NonFiniteOutput, ImageFileError) as error:
        if len(jobs) > 1:
            return [upscaled(upscaler, name, [job])[0] for job in jobs]
        if isinstance(error, NonFiniteOutput):
            return [(not_finite(name), {})]
        notice(error.message)
        return [(f"{OUTPUTS.get(error.reason, UNREADABLE_OUTPUT)}:{name}", {})]


def _by_degradation(candidates: Iterable[samples.Candidate]) -> Iterator[list[samples.Candidate]]:
    """Neighbours that are made of one degraded reference."""
    return (list(group) for _, group in groupby(candidates, key=lambda one: (one.source_id, one.round)))
