"""The shards of a dataset: which samples each holds, and how many may be dropped as not finite."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fgr.errors import UserError
from fgr.generate import samples
from fgr.recipe.generate import GenerateRecipe

NOT_FINITE = "not_finite"  # reason of a drop, followed by the model
OUTPUTS = {"missing": "missing_output", "size": "wrong_size_output"}  # likewise: of outputs made elsewhere, by what is wrong
UNREADABLE_OUTPUT = "unreadable_output"  # with whatever else
Tick = Callable[[int, dict[str, int]], None]  # samples finished (written or dropped), drops by reason


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard's file name and its candidates, neighbours of one restored image together."""

    split: str
    name: str
    candidates: tuple[samples.Candidate, ...]


def plan_shards(source_ids: Mapping[str, Sequence[str]], recipe: GenerateRecipe) -> list[Shard]:
    """All shards of a dataset; `source_ids` are the references of each split. The number of files never depends on drops."""
    shards = []
    for split, number in samples.allot(recipe.samples, {split: len(ids) for split, ids in source_ids.items()}).items():
        todo = samples.candidates(source_ids[split], recipe.models, recipe.masks.composites, number)
        parts = [tuple(todo[start : start + recipe.shard_rows]) for start in range(0, number, recipe.shard_rows)]
        shards += [Shard(split, f"{split}-{i:05d}-of-{len(parts):05d}.parquet", part) for i, part in enumerate(parts)]
    return shards


def not_finite(model: str) -> str:
    """The reason of a drop: the SR model's output has NaN or infinity."""
    return f"{NOT_FINITE}:{model}"


class NotFiniteLimit:
    """Passes counts on to `tick`, and stops the run once more than `share` of `total` samples are dropped as not finite."""

    def __init__(self, tick: Tick, total: int, share: float) -> None:
        self._tick, self._total, self._share = tick, total, share
        self._dropped: Counter[str] = Counter()

    def __call__(self, count: int, drops: dict[str, int]) -> None:
        """Count finished samples and drops by reason. UserError above the limit."""
        self._tick(count, drops)
        self._dropped.update({reason: number for reason, number in drops.items() if reason.startswith(NOT_FINITE)})
        if self._dropped.total() > self._share * self._total:
            by_model = ", ".join(
                f"{reason.removeprefix(f'{NOT_FINITE}:')} {number}" for reason, number in sorted(self._dropped.items())
            )
            raise UserError(
                f"Too many SR outputs have values that are not finite (NaN or infinity), by SR model: {by_model}.",
                "Run that model with inference.precision=fp32, check its weights, or leave it out; "
                f"not_finite={self._share:g} is the share of samples that may be dropped for it.",
            )
