"""Making one shard: a pure function of the plan, the recipe and the shard's name, written whole or not at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import manifest, tables
from fgr.generate import plan, samples
from fgr.generate.overlap import Once, ahead, chunks, pool_of
from fgr.generate.segments import Segments
from fgr.generate.watch import not_finite
from fgr.images import codec, degrade, difference
from fgr.metrics.features import FeatureDifference
from fgr.sr import Job, NonFiniteOutput, Upscaler
from fgr.tensors import file_digest

Tick = Callable[[int, dict[str, int]], None]  # samples finished (made or dropped), drops by reason


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard's file name and its candidates, neighbours of one restored image together."""

    split: str
    name: str
    candidates: tuple[samples.Candidate, ...]


def plan_shards(
    references: Mapping[str, Sequence[str]], models: Sequence[str], composites: int, total: int, rows: int
) -> list[Shard]:
    """All shards of a dataset; `references` maps a split to its source_ids. The number of files never depends on drops."""
    shards = []
    for split, number in samples.allot(total, {split: len(ids) for split, ids in references.items()}).items():
        todo = samples.candidates(references[split], models, composites, number)
        parts = [tuple(todo[start : start + rows]) for start in range(0, number, rows)]
        shards += [Shard(split, f"{split}-{i:05d}-of-{len(parts):05d}.parquet", part) for i, part in enumerate(parts)]
    return shards


@dataclass(frozen=True, slots=True)
class Prepared:
    """A degraded reference and the candidates that are to be made of it, `of` a shard."""

    of: Any
    candidates: list[samples.Candidate]
    entry: plan.Reference
    encoded: bytes
    reference: np.ndarray
    record: dict[str, Any]
    job: Job
    segments: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Restored:
    """What one SR model made of a prepared reference: `sr` is None where it gave values that are not finite."""

    prepared: Prepared
    candidates: list[samples.Candidate]
    sr: np.ndarray | None
    settings: dict[str, Any]
    seen: Any  # by the feature difference


Row = dict[str, Any] | str  # a text is a drop's reason


@dataclass(slots=True)
class ShardMaker:
    """What a worker keeps between shards: open SR models, the feature difference, the segments, the plan and the knobs.

    `batch` references of a shard are restored at a time. With `threads`, what needs no device is done by so many beside it:
    reading and degrading the references to come; differences, masks, encoding and writing of those before. The rows are the
    same with any number.
    """

    out: Path
    seed: int
    scale: int
    degradation: str
    photographs: plan.Plan
    upscalers: Mapping[str, Upscaler]
    features: FeatureDifference
    segmenter: Segments
    alpha: float
    smooth: float
    knobs: samples.Knobs
    determinants: dict[str, Any]
    batch: int = 1
    threads: int = 0

    def make(self, shards: Iterable[Shard], tick: Tick) -> None:
        """Make shards and write each and then its state; both exist afterwards, or neither counts.

        The next shard is taken, with `threads`, while the last rows of one are still being made.
        """
        with pool_of(min(self.threads, 1)) as writer:
            for _ in ahead(writer, self._write, self._made(shards, tick), 1):
                pass

    def _made(self, shards: Iterable[Shard], tick: Tick) -> Iterator[tuple[Shard, list[Row]]]:
        rows: list[Row] = []
        groups = ((shard, group) for shard in shards for group in _together(shard.candidates))
        for shard, some in self._flow(groups, self._rows):
            rows += some
            for row in some:
                tick(1, {row: 1} if isinstance(row, str) else {})
            if len(rows) == len(shard.candidates):
                yield shard, rows
                rows = []

    def _write(self, made: tuple[Shard, list[Row]]) -> None:
        shard, everything = made
        rows = [row for row in everything if not isinstance(row, str)]
        drops = Counter(row for row in everything if isinstance(row, str))
        path = self.out / "samples" / shard.name
        if rows:
            tables.write_table(path, "samples", rows)
        state = {"file": f"samples/{shard.name}", "split": shard.split, "rows": len(rows), "drops": dict(sorted(drops.items()))}
        if rows:
            state |= {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        atomic.write_text(state_path(self.out, shard), json.dumps(state, sort_keys=True))

    def pairs(self, candidates: Iterable[samples.Candidate]) -> Iterator[samples.Pair | str]:
        """Every candidate's reference and restored image with their differences, or a drop's reason."""
        flow = self._flow(((None, group) for group in _together(candidates)), lambda one: [self._pair(one)] * len(one.candidates))
        return chain.from_iterable(pairs for _, pairs in flow)

    def _flow(
        self, groups: Iterable[tuple[Any, list[samples.Candidate]]], finish: Callable[[Restored], list[Any]]
    ) -> Iterator[tuple[Any, list[Any]]]:
        """Candidates through all stages: what each group is of, and what `finish` makes of it for each model.

        The device's stage is in this thread.
        """
        with pool_of(self.threads) as pool:
            prepared = ahead(pool, self._prepare, groups, self.batch + self.threads)
            restored = chain.from_iterable(map(self._restore, chunks(prepared, self.batch, lambda one: id(one.of))))
            yield from ahead(pool, lambda one: (one.prepared.of, finish(one)), restored, 4 * self.threads)

    def _prepare(self, group: tuple[Any, list[samples.Candidate]]) -> Prepared:
        of, candidates = group
        first = candidates[0]
        entry = self.photographs.references[first.source_id]
        encoded = self.photographs.read(entry)
        reference = codec.decode_rgb(encoded)
        rng = np.random.default_rng(samples.seed_of(self.seed, first.source_id, first.round))
        record = degrade.draw(self.degradation, rng, self.scale)
        size, box = (entry.photo_height, entry.photo_width), (entry.top, entry.left, len(reference))
        job = Job(degrade.apply(reference, record), entry.photo, size, box)
        segments = Once(partial(self._segments, first.source_id, reference))
        return Prepared(of, candidates, entry, encoded, reference, record, job, segments)

    def _restore(self, chunk: list[Prepared]) -> list[Restored]:
        """Each SR model on all references that it is wanted for, then what else a device does; in the candidates' order."""
        made: list[dict[str, Restored]] = [{} for _ in chunk]
        for name in dict.fromkeys(one.model for prepared in chunk for one in prepared.candidates):
            wanted = [i for i, prepared in enumerate(chunk) if any(one.model == name for one in prepared.candidates)]
            images = _upscaled(self.upscalers[name], [chunk[i].job for i in wanted])
            settings = self.upscalers[name].settings()
            for i, sr in zip(wanted, images, strict=True):
                its = [one for one in chunk[i].candidates if one.model == name]
                seen = None if sr is None else self.features.look(chunk[i].reference, sr)
                made[i][name] = Restored(chunk[i], its, sr, settings, seen)
        for prepared in chunk if self.segmenter.slow else ():
            if any(self._kind(one) == "semantic" for one in prepared.candidates):
                prepared.segments()
        return [one for by_model in made for one in by_model.values()]

    def _pair(self, restored: Restored) -> samples.Pair | str:
        if restored.sr is None:
            return not_finite(restored.candidates[0].model)
        feature = self.features.compare(restored.seen)
        return _pair(restored.prepared.reference, restored.sr, feature, self.alpha, self.smooth)

    def _rows(self, restored: Restored) -> list[Row]:
        pair = self._pair(restored)
        if isinstance(pair, str):
            return [pair] * len(restored.candidates)
        rows: list[Row] = []
        shared = self._shared(restored, pair)
        for candidate in restored.candidates:
            segments = restored.prepared.segments() if self._kind(candidate) == "semantic" else None
            seed = self._seed(candidate)
            sample = samples.make_sample(pair, seed, self.knobs, segments)
            rows.append("severity" if sample is None else self._row(sample, shared, seed))
        return rows

    def _seed(self, one: samples.Candidate) -> int:
        return samples.seed_of(self.seed, one.source_id, one.round, one.model, one.composite)

    def _kind(self, one: samples.Candidate) -> str:
        return samples.mask_kind(self._seed(one), self.knobs.kinds)

    def _segments(self, source_id: str, reference: np.ndarray) -> np.ndarray:
        """The segments of a reference; those that take long are kept in the run's folder for other rounds and workers."""
        if not self.segmenter.slow:
            return self.segmenter.segments(reference)
        path = self.out / ".fgr" / "segments" / f"{source_id}.png"
        if not path.is_file():
            atomic.write_bytes(path, codec.encode_labels(self.segmenter.segments(reference)))
        return codec.decode_labels(path.read_bytes())

    def _shared(self, restored: Restored, pair: samples.Pair) -> dict[str, Any]:
        """The columns that all rows of a restored image share."""
        model, entry = restored.candidates[0].model, restored.prepared.entry
        upscaler = self.upscalers[model]
        record = {"preset": "external"} if upscaler.external else restored.prepared.record
        return {
            "source_id": entry.source_id, "photo_id": entry.photo_id, "reference": restored.prepared.encoded,
            "sr": codec.encode_rgb(pair.sr), "model": model, "model_digest": upscaler.digest, "scale": self.scale,
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


def _together(candidates: Iterable[samples.Candidate]) -> Iterator[list[samples.Candidate]]:
    """Neighbours that are made of one degraded reference."""
    return (list(group) for _, group in groupby(candidates, key=lambda one: (one.source_id, one.round)))


def make_pair(reference: np.ndarray, sr: np.ndarray, features: FeatureDifference, alpha: float, smooth: float) -> samples.Pair:
    """The differences of a restored image, uint8 (H, W, 3), to its reference."""
    return _pair(reference, sr, features.difference(reference, sr), alpha, smooth)


def _pair(reference: np.ndarray, sr: np.ndarray, feature: np.ndarray, alpha: float, smooth: float) -> samples.Pair:
    pixel = difference.pixel_difference(reference, sr)
    return samples.Pair(reference, sr, pixel, feature, difference.combined(pixel, feature, alpha, smooth))


def _upscaled(upscaler: Upscaler, jobs: list[Job]) -> list[np.ndarray | None]:
    """The restored images; None for those whose values are not finite, which are found one by one."""
    try:
        return list(upscaler.upscale(jobs))
    except NonFiniteOutput:
        return [None] if len(jobs) == 1 else [_upscaled(upscaler, [job])[0] for job in jobs]


def state_path(out: Path, shard: Shard) -> Path:
    """The file whose existence says that a shard is done."""
    return out / ".fgr" / "shards" / f"{shard.name}.json"


def is_done(out: Path, shard: Shard) -> bool:
    """Whether the shard's state exists and its file has the size written there."""
    try:
        state = json.loads(state_path(out, shard).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    path = out / state["file"]
    return bool(state["rows"] == 0 or (path.is_file() and path.stat().st_size == state["bytes"]))
