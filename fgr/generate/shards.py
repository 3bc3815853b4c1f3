"""Making one shard: a pure function of the plan, the recipe and the shard's name, written whole or not at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import manifest, tables
from fgr.generate import plan, samples
from fgr.generate.features import FeatureDifference
from fgr.generate.overlap import ahead, chunks
from fgr.generate.segments import Segments
from fgr.generate.upscalers import Job, NonFiniteOutput, Upscaler
from fgr.generate.watch import not_finite
from fgr.images import codec, degrade, difference

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
    """A degraded reference and the candidates that are to be made of it."""

    candidates: list[samples.Candidate]
    entry: plan.Reference
    encoded: bytes
    reference: np.ndarray
    record: dict[str, Any]
    job: Job


@dataclass(frozen=True, slots=True)
class Restored:
    """What one SR model made of a prepared reference: `sr` is None where it gave values that are not finite."""

    candidates: list[samples.Candidate]
    sr: np.ndarray | None
    settings: dict[str, Any]
    seen: Any  # by the feature difference


Drawn = tuple[samples.Candidate, samples.Pair | str, dict[str, Any]]  # a text is a drop's reason


@dataclass(slots=True)
class ShardMaker:
    """What a worker keeps between shards: open SR models, the feature difference, the segments, the plan and the knobs.

    `batch` references are restored at a time. With `threads`, what needs no device is done by so many beside it: reading and
    degrading the references to come, differences, masks and encoding of those before. The rows are the same with any number.
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

    def make(self, shard: Shard, tick: Tick) -> None:
        """Make and write a shard and then its state; both exist afterwards, or neither counts."""
        rows: list[dict[str, Any]] = []
        drops: Counter[str] = Counter()
        for row in chain.from_iterable(self._flow(shard.candidates, self._rows, self._segmented)):
            if isinstance(row, str):
                drops[row] += 1
            else:
                rows.append(row)
            tick(1, {row: 1} if isinstance(row, str) else {})
        path = self.out / "samples" / shard.name
        if rows:
            tables.write_table(path, "samples", rows)
        state = {"file": f"samples/{shard.name}", "split": shard.split, "rows": len(rows), "drops": dict(sorted(drops.items()))}
        if rows:
            state |= {"bytes": path.stat().st_size, "sha256": manifest.file_digest(path)}
        atomic.write_text(state_path(self.out, shard), json.dumps(state, sort_keys=True))

    def pairs(self, candidates: Iterable[samples.Candidate]) -> Iterator[tuple[samples.Candidate, samples.Pair | str]]:
        """Every candidate's reference and restored image with their differences, or a drop's reason."""
        made = self._flow(candidates, lambda restored: list(self._pairs(*restored[:2])), lambda *_: None)
        return ((candidate, pair) for candidate, pair, _ in chain.from_iterable(made))

    def _flow(
        self, candidates: Iterable[samples.Candidate], finish: Callable[[Any], list[Any]], segment: Callable[..., Any]
    ) -> Iterator[list[Any]]:
        """Candidates through all stages, grouped by what is restored together; the device's stage is in this thread."""
        groups = (list(group) for _, group in groupby(candidates, key=lambda one: (one.source_id, one.round)))
        depth = self.batch + 2 * self.threads
        with ThreadPoolExecutor(self.threads) if self.threads else nullcontext() as pool:
            prepared = ahead(pool, self._prepare, groups, depth)
            restored = chain.from_iterable(map(self._restore, chunks(prepared, self.batch)))
            yield from ahead(pool, finish, ((*one, segment(one[0])) for one in restored), depth)

    def _prepare(self, candidates: list[samples.Candidate]) -> Prepared:
        first = candidates[0]
        entry = self.photographs.references[first.source_id]
        encoded = self.photographs.read(entry)
        reference = codec.decode_rgb(encoded)
        rng = np.random.default_rng(samples.seed_of(self.seed, first.source_id, first.round))
        record = degrade.draw(self.degradation, rng, self.scale)
        size, box = (entry.photo_height, entry.photo_width), (entry.top, entry.left, len(reference))
        job = Job(degrade.apply(reference, record), entry.photo, size, box)
        return Prepared(candidates, entry, encoded, reference, record, job)

    def _restore(self, chunk: list[Prepared]) -> list[tuple[Prepared, list[Restored]]]:
        """Each SR model on all references that it is wanted for, then what the feature difference sees."""
        made: list[dict[str, Restored]] = [{} for _ in chunk]
        for name in dict.fromkeys(one.model for prepared in chunk for one in prepared.candidates):
            wanted = [i for i, prepared in enumerate(chunk) if any(one.model == name for one in prepared.candidates)]
            images = _upscaled(self.upscalers[name], [chunk[i].job for i in wanted])
            settings = self.upscalers[name].settings()
            for i, sr in zip(wanted, images, strict=True):
                its = [one for one in chunk[i].candidates if one.model == name]
                seen = None if sr is None else self.features.look(chunk[i].reference, sr)
                made[i][name] = Restored(its, sr, settings, seen)
        return [(prepared, list(by_model.values())) for prepared, by_model in zip(chunk, made, strict=True)]

    def _pairs(self, prepared: Prepared, restored: list[Restored]) -> Iterator[Drawn]:
        entry = prepared.entry
        for one in restored:
            upscaler = self.upscalers[one.candidates[0].model]
            if one.sr is None:
                yield from ((candidate, not_finite(candidate.model), {}) for candidate in one.candidates)
                continue
            record = {"preset": "external"} if upscaler.external else prepared.record
            shared = {
                "source_id": entry.source_id, "photo_id": entry.photo_id, "reference": prepared.encoded,
                "sr": codec.encode_rgb(one.sr), "model": one.candidates[0].model, "model_digest": upscaler.digest,
                "scale": self.scale, "degradation": json.dumps(record, sort_keys=True),
                "inference": json.dumps(one.settings, sort_keys=True),
                "license": entry.license, "attribution": entry.attribution,
            }  # fmt: skip
            pair = _pair(prepared.reference, one.sr, self.features.compare(one.seen), self.alpha, self.smooth)
            yield from ((candidate, pair, shared) for candidate in one.candidates)

    def _rows(self, restored: tuple[Prepared, list[Restored], np.ndarray | None]) -> list[dict[str, Any] | str]:
        prepared, models, segments = restored
        rows: list[dict[str, Any] | str] = []
        for candidate, pair, shared in self._pairs(prepared, models):
            if isinstance(pair, str):
                rows.append(pair)
                continue
            seed = self._seed(candidate)
            if segments is None and samples.mask_kind(seed, self.knobs.kinds) == "semantic":
                segments = self.segmenter.segments(pair.reference)
            sample = samples.make_sample(pair, seed, self.knobs, segments)
            rows.append("severity" if sample is None else self._row(sample, shared, seed))
        return rows

    def _seed(self, one: samples.Candidate) -> int:
        return samples.seed_of(self.seed, one.source_id, one.round, one.model, one.composite)

    def _segmented(self, prepared: Prepared) -> np.ndarray | None:
        """The segments of a reference that semantic masks need, where a device makes them; others are made with the rows.

        They are kept in the run's folder for the other rounds and workers.
        """
        kinds = (samples.mask_kind(self._seed(one), self.knobs.kinds) for one in prepared.candidates)
        if not self.segmenter.slow or "semantic" not in kinds:
            return None
        path = self.out / ".fgr" / "segments" / f"{prepared.entry.source_id}.png"
        if not path.is_file():
            atomic.write_bytes(path, codec.encode_labels(self.segmenter.segments(prepared.reference)))
        return codec.decode_labels(path.read_bytes())

    def _row(self, sample: samples.Sample, shared: dict[str, Any], seed: int) -> dict[str, Any]:
        row = shared | {
            "composite": codec.encode_rgb(sample.composite), "mask": codec.encode_mask(sample.mask),
            "degradation_map": codec.encode_map(sample.degradation_map), "score": sample.score, "mask_kind": sample.mask_kind,
            "mask_area": float(sample.mask.mean(dtype=np.float64) / 255), "pixel_difference": sample.pixel_difference,
            "feature_difference": sample.feature_difference, "seed": seed,
        }  # fmt: skip
        return row | {"id": manifest.row_id(row, self.determinants)}


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
