"""Making one shard: a pure function of the plan, the recipe and the shard's name, written whole or not at all."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import manifest, tables
from fgr.generate import plan, samples
from fgr.generate.features import FeatureDifference
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


@dataclass(slots=True)
class ShardMaker:
    """What a worker keeps between shards: open SR models, the feature difference, the segments, the plan and the knobs."""

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

    def make(self, shard: Shard, tick: Tick) -> None:
        """Make and write a shard and then its state; both exist afterwards, or neither counts."""
        rows: list[dict[str, Any]] = []
        drops: Counter[str] = Counter()
        for _, group in groupby(shard.candidates, key=lambda one: (one.source_id, one.round)):
            for row in self._rows(list(group)):
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

    def pairs(
        self, candidates: Sequence[samples.Candidate]
    ) -> Iterator[tuple[samples.Candidate, samples.Pair | str, dict[str, Any]]]:
        """Restore the one degraded reference of `candidates` with each of their models; a text for a pair is a drop's reason."""
        first = candidates[0]
        entry = self.photographs.references[first.source_id]
        encoded = self.photographs.read(entry)
        reference = codec.decode_rgb(encoded)
        rng = np.random.default_rng(samples.seed_of(self.seed, first.source_id, first.round))
        record = degrade.draw(self.degradation, rng, self.scale)
        job = Job(
            degrade.apply(reference, record),
            entry.photo,
            (entry.photo_height, entry.photo_width),
            (entry.top, entry.left, len(reference)),
        )
        for model, group in groupby(candidates, key=lambda one: one.model):
            upscaler = self.upscalers[model]
            try:
                sr = upscaler.upscale([job])[0]
            except NonFiniteOutput:
                yield from ((one, not_finite(model), {}) for one in group)
                continue
            shared = {
                "source_id": entry.source_id, "photo_id": entry.photo_id, "reference": encoded, "sr": codec.encode_rgb(sr),
                "model": model, "model_digest": upscaler.digest, "scale": self.scale,
                "degradation": json.dumps({"preset": "external"} if upscaler.external else record, sort_keys=True),
                "inference": json.dumps(upscaler.settings(), sort_keys=True),
                "license": entry.license, "attribution": entry.attribution,
            }  # fmt: skip
            pair = make_pair(reference, sr, self.features, self.alpha, self.smooth)
            yield from ((one, pair, shared) for one in group)

    def _rows(self, candidates: Sequence[samples.Candidate]) -> Iterator[dict[str, Any] | str]:
        segments: np.ndarray | None = None
        for candidate, pair, shared in self.pairs(candidates):
            if isinstance(pair, str):
                yield pair
                continue
            seed = samples.seed_of(self.seed, candidate.source_id, candidate.round, candidate.model, candidate.composite)
            if segments is None and samples.mask_kind(seed, self.knobs.kinds) == "semantic":
                segments = self._segments(candidate.source_id, pair.reference)
            sample = samples.make_sample(pair, seed, self.knobs, segments)
            yield "severity" if sample is None else self._row(sample, shared, seed)

    def _segments(self, source_id: str, reference: np.ndarray) -> np.ndarray:
        """The segments of a reference; those that took long are kept in the run's folder for the other rounds and workers."""
        if not self.segmenter.slow:
            return self.segmenter.segments(reference)
        path = self.out / ".fgr" / "segments" / f"{source_id}.png"
        if not path.is_file():
            atomic.write_bytes(path, codec.encode_labels(self.segmenter.segments(reference)))
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
    pixel = difference.pixel_difference(reference, sr)
    feature = features.difference(reference, sr)
    return samples.Pair(reference, sr, pixel, feature, difference.combined(pixel, feature, alpha, smooth))


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
