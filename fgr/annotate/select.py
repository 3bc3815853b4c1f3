"""Which samples people see, which of them test the annotators, and who gets which. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample as far as selection needs it; `interest`: higher = sooner."""

    id: str
    source: str
    model: str
    mask_kind: str
    area: float
    score: float
    interest: float = 0.0


def stratified(candidates: Sequence[Candidate], count: int, bins: int, rng: np.random.Generator) -> list[str]:
    """Ids of `count` candidates spread evenly over models and `bins` equal-count steps of the score.

    Within a stratum the most interesting come first, then a random order; strata are visited round-robin.
    """
    if not candidates:
        return []
    order = np.argsort([c.score for c in candidates], kind="stable")
    step = np.empty(len(candidates), int)
    step[order] = np.arange(len(candidates)) * bins // len(candidates)
    strata: dict[tuple[str, int], list[tuple[float, float, str]]] = defaultdict(list)
    for candidate, level, tie in zip(candidates, step.tolist(), rng.random(len(candidates)).tolist(), strict=True):
        strata[candidate.model, level].append((-candidate.interest, tie, candidate.id))
    queues = [sorted(strata[key]) for key in sorted(strata)]
    rounds = [queue[turn][2] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return rounds[:count]


def gold(
    candidates: Sequence[Candidate], count: int, worst: float, area: float, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Up to `count` (id, kind) samples with a known answer: half `clean` (sham rows), half `strong`.

    `strong` are swapped regions of at least the share `area` of the image among the `worst` share of scores.
    """
    clean = [candidate.id for candidate in candidates if candidate.mask_kind == "sham"]
    partial = [candidate for candidate in candidates if candidate.mask_kind not in {"sham", "full"}]
    bound = np.quantile([candidate.score for candidate in partial], worst) if partial else 0.0
    strong = [candidate.id for candidate in partial if candidate.score <= bound and candidate.area >= area]
    rng.shuffle(clean)
    rng.shuffle(strong)
    half = min(len(strong), max(count // 2, count - len(clean)))
    return [(name, "strong") for name in strong[:half]] + [(name, "clean") for name in clean[: count - half]]


def pairs(candidates: Iterable[Candidate], count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """`count` (left, right) pairs of different samples of one reference, sides drawn at random, sources taken in turn."""
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.mask_kind != "sham":
            by_source[candidate.source].append(candidate)
    queues = []
    for source in sorted(by_source):
        group = sorted(by_source[source], key=lambda candidate: candidate.id)
        found = [(a.id, b.id) for i, a in enumerate(group) for b in group[i + 1 :]]
        rng.shuffle(found)
        queues.append(found)
    longest = max(map(len, queues), default=0)
    chosen = [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)][:count]
    return [pair if flip else (pair[1], pair[0]) for pair, flip in zip(chosen, rng.random(len(chosen)) < 0.5, strict=True)]


def assign(
    items: Sequence[str],
    annotators: Sequence[str],
    overlap: int,
    everyone: Iterable[str] = (),
    load: Mapping[str, int] | None = None,
) -> dict[str, list[str]]:
    """Each item to `overlap` different annotators (those in `everyone` to all of them), loads equal to within one item.

    `load` is what the annotators have already. Neighbouring items get different groups, so that everybody can be compared
    with everybody. ValueError if the overlap exceeds the annotators.
    """
    if not 1 <= overlap <= len(annotators):
        raise ValueError(f"an overlap of {overlap} needs as many annotators, there are {len(annotators)}")
    special = set(everyone)
    counts = {name: (load or {}).get(name, 0) for name in annotators}
    together: dict[frozenset[str], int] = defaultdict(int)
    given: dict[str, list[str]] = {}
    for item in items:
        if item in special:
            given[item] = list(annotators)
            continue
        chosen: list[str] = []
        for _ in range(overlap):
            rest = [name for name in annotators if name not in chosen]
            chosen.append(min(rest, key=lambda name: (counts[name], _met(together, chosen, name), name)))
            counts[chosen[-1]] += 1
        for i, first in enumerate(chosen):
            for second in chosen[i + 1 :]:
                together[frozenset((first, second))] += 1
        given[item] = sorted(chosen)
    return given


def _met(together: Mapping[frozenset[str], int], chosen: Sequence[str], name: str) -> int:
    return sum(together.get(frozenset((name, other)), 0) for other in chosen)


def cold(ids: Sequence[str], share: float, rng: np.random.Generator) -> set[str]:
    """The ids that get no pre-annotation: they hide the gold samples and show how much pre-annotations lead people."""
    return {ids[i] for i in rng.permutation(len(ids))[: round(share * len(ids))]}


def disagreement(heuristic: np.ndarray, reward: np.ndarray) -> float:
    """How interesting a sample is: mean |difference| of two float32 (H, W) maps over their union's weight, 0…1."""
    union = float(np.maximum(heuristic, reward).sum())
    return float(np.abs(heuristic - reward).sum()) / union if union > 1e-6 * heuristic.size else 0.0


def candidate(row: Mapping[str, Any]) -> Candidate:
    """A candidate from a row of `samples` without images."""
    return Candidate(row["id"], row["source_id"], row["model"], row["mask_kind"], float(row["mask_area"]), float(row["score"]))
