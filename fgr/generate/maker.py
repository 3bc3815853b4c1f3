"""Makes the samples of a shard from plan and recipe, and writes it whole or not at all."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np

from fgr.dataset import tables
from fgr.errors import notice
from fgr.generate import samples
from fgr.generate.plan import ReferencePlan
from fgr.generate.prefetch import batches, prefetch, thread_pool
from fgr.generate.rows import Degraded, ModelFacts, Restored, Row, RowMaker, beside
from fgr.generate.segments import Segments
from fgr.generate.shards import OUTPUTS, UNREADABLE_OUTPUT, Shard, Tick, not_finite
from fgr.generate.workspace import Workspace
from fgr.image_files import ImageFileError
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


@dataclass(slots=True)
class ShardMaker:
    """What a worker keeps between shards: the run's workspace and recipe, the plan, the open models, and the calibration.

    `batch` references of a shard are restored at a time. With `threads`, what needs no device is done by so many beside it, or
    by so many `processes`: reading and degrading the references to come; differences, masks and encoding of those before. The
    rows are the same with any number.
    """

    workspace: Workspace
    recipe: GenerateRecipe
    plan: ReferencePlan
    models: Models
    map_scale: float
    determinants: dict[str, Any]
    batch: int = 1
    threads: int = 0
    processes: bool = False
    hardware: Mapping[str, Any] = field(default_factory=dict)  # of the worker, where rows depend on it

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
        return chain.from_iterable(pairs for _, pairs in self._pipeline(groups, "pairs"))

    def _shard_rows(self, shards: Iterable[Shard], tick: Tick) -> Iterator[tuple[Shard, list[Row]]]:
        begun: dict[str, Shard] = {}

        def groups() -> Iterator[tuple[str, list[samples.Candidate]]]:
            for shard in shards:
                begun[shard.name] = shard
                yield from ((shard.name, group) for group in _by_degradation(shard.candidates))

        rows: list[Row] = []
        for name, some in self._pipeline(groups(), "rows"):
            rows += some
            for row in some:
                tick(1, {row: 1} if isinstance(row, str) else {})
            if len(rows) == len(begun[name].candidates):
                yield begun.pop(name), rows
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

    def _pipeline(self, groups: Iterable[tuple[str | None, list[samples.Candidate]]], finish: str) -> Iterator[tuple[Any, Any]]:
        """Candidates through all stages: the shard that each group is of, and what RowMaker's method `finish` makes of it.

        The device's stage is in this thread.
        """
        rows = self._row_maker()
        with beside(rows, self.threads, self.processes) as work:
            degraded = work("degraded", groups, self.batch + self.threads)
            restored = chain.from_iterable(
                self._restore(some, rows) for some in batches(degraded, self.batch, lambda one: one.of)
            )
            yield from work(finish, restored, 2 * self.threads)

    def _row_maker(self) -> RowMaker:
        facts = {name: ModelFacts(one.digest, one.external) for name, one in self.models.upscalers.items()}
        segmenter = self.models.segments
        segments = self.workspace.kept_segments if segmenter.slow else partial(_of_pixels, segmenter.segments)
        return RowMaker(
            self.recipe,
            self.plan,
            self.map_scale,
            self.determinants,
            facts,
            self.models.features.compare,
            segments,
            self.hardware,
        )

    def _restore(self, batch: list[Degraded], rows: RowMaker) -> list[tuple[Degraded, list[Restored]]]:
        """Each SR model on all references that it is wanted for, then what else a device does; in the candidates' order."""
        restored: list[dict[str, Restored]] = [{} for _ in batch]
        for name in dict.fromkeys(one.model for degraded in batch for one in degraded.candidates):
            wanted = [i for i, degraded in enumerate(batch) if any(one.model == name for one in degraded.candidates)]
            upscaler = self.models.upscalers[name]
            results = upscaled(upscaler, name, [batch[i].job for i in wanted])
            for i, (sr, settings) in zip(wanted, results, strict=True):
                own = [one for one in batch[i].candidates if one.model == name]
                features = None if isinstance(sr, str) else self.models.features.extract(batch[i].reference, sr)
                restored[i][name] = Restored(own, sr, settings, features)
        for degraded in batch if self.models.segments.slow else ():
            if any(rows.kind(one) == "semantic" for one in degraded.candidates):
                self.workspace.keep_segments(degraded.entry.source_id, degraded.reference, self.models.segments.segments)
        return [(degraded, list(by_model.values())) for degraded, by_model in zip(batch, restored, strict=True)]


def _of_pixels(segments: Callable[[np.ndarray], np.ndarray], source_id: str, reference: np.ndarray) -> np.ndarray:
    return segments(reference)


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
