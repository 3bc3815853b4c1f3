"""Which samples people see, which of them are gold samples, and who gets which."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fgr.annotate.campaign import Campaign, Entry
from fgr.annotate.push import Predict, sample_rows
from fgr.annotate.tasks import PAIR
from fgr.dataset import cells, tables
from fgr.errors import UserError
from fgr.progress import Progress
from fgr.recipe.annotate import AnnotateRecipe

COLUMNS = ("id", "source_id", "model", "mask_kind", "mask_area", "score")


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


def new_entries(recipe: AnnotateRecipe, directory: Path, campaign: Campaign, predict: Predict | None) -> tuple[Entry, ...]:
    """What the recipe's selection adds to the campaign; the same recipe again adds nothing.

    With `predict`, a reward model's forward, samples whose heuristic map it disputes come first. UserError if nothing fits.
    """
    candidates = _candidates(directory, recipe)
    if recipe.interface == "preference":
        return _new_pairs(recipe, candidates, campaign)
    if predict is not None and recipe.select.pool > 1:
        candidates = _with_interest(directory, candidates, recipe, predict)
    return _new_samples(recipe, candidates, campaign)


def _candidates(directory: Path, recipe: AnnotateRecipe) -> list[Candidate]:
    rows = tables.read_rows(directory, "samples", COLUMNS, recipe.select.split)
    found = [
        Candidate(row["id"], row["source_id"], row["model"], row["mask_kind"], float(row["mask_area"]), float(row["score"]))
        for row in rows
        if not recipe.select.models or row["model"] in recipe.select.models
    ]
    if not found:
        raise UserError(
            f"{directory} has no samples of the models {', '.join(recipe.select.models)}.",
            f"List its models with: fgr report {directory}",
        )
    return found


def _with_interest(directory: Path, candidates: list[Candidate], recipe: AnnotateRecipe, predict: Predict) -> list[Candidate]:
    """A random pool of candidates with their interest: how far the heuristic map and the reward model's map disagree."""
    rng = np.random.default_rng(recipe.seed)
    size = min(len(candidates), recipe.select.pool * recipe.select.samples)
    pool = {candidates[i].id: candidates[i] for i in rng.permutation(len(candidates))[:size]}
    pool |= {candidate.id: candidate for candidate in candidates if candidate.mask_kind == "sham"}
    found = []
    with Progress("predict", len(pool), "samples") as progress:
        for row in sample_rows(directory, set(pool)):
            values, _ = predict(cells.pixels(row, "composite"))
            interest = disagreement(cells.pixels(row, "degradation_map"), values)
            found.append(replace(pool[row["id"]], interest=interest))
            progress.advance()
    return found


def _new_samples(recipe: AnnotateRecipe, candidates: list[Candidate], campaign: Campaign) -> tuple[Entry, ...]:
    known = {entry.key for entry in campaign.entries}
    rng = np.random.default_rng([recipe.seed, len(known)])
    want = recipe.select.samples - sum(not entry.gold for entry in campaign.entries)
    fresh = [candidate for candidate in candidates if candidate.id not in known]
    count = round(recipe.gold.share * recipe.select.samples) - len(campaign.gold)
    golden = dict(gold(fresh, max(count, 0), recipe.gold.worst, recipe.gold.area, rng))
    ordinary = [candidate for candidate in fresh if candidate.id not in golden and candidate.mask_kind != "sham"]
    chosen = stratified(ordinary, max(want, 0), recipe.select.bins, rng)
    unpainted = cold(chosen, 1 - recipe.prediction.share, rng)
    everything = [*chosen, *golden]
    order = [everything[i] for i in rng.permutation(len(everything))]
    assigned = _assigned(recipe, campaign, order, golden)
    return tuple(Entry(key, tuple(assigned[key]), golden.get(key, ""), key in unpainted) for key in order)


def _new_pairs(recipe: AnnotateRecipe, candidates: list[Candidate], campaign: Campaign) -> tuple[Entry, ...]:
    known = {frozenset(entry.key.split(PAIR)) for entry in campaign.entries}
    rng = np.random.default_rng([recipe.seed, len(known)])
    found = pairs(candidates, recipe.select.samples, rng)
    if not found:
        raise UserError("No two samples share a reference, so there is nothing to compare.", "Use two or more SR models.")
    fresh = [pair for pair in found if frozenset(pair) not in known][: max(recipe.select.samples - len(known), 0)]
    keys = [PAIR.join(pair) for pair in fresh]
    assigned = _assigned(recipe, campaign, keys, ())
    return tuple(Entry(key, tuple(assigned[key])) for key in keys)


def _assigned(recipe: AnnotateRecipe, campaign: Campaign, keys: list[str], everyone: Iterable[str]) -> dict[str, list[str]]:
    """Projects by key: those of `raters` of the named annotators, or the one project for all."""
    if not recipe.annotators:
        return {key: [""] for key in keys}
    load = {name: sum(name in entry.projects for entry in campaign.entries) for name in recipe.annotators}
    return assign(keys, recipe.annotators, recipe.raters, everyone, load)


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
    raters: int,
    everyone: Iterable[str] = (),
    load: Mapping[str, int] | None = None,
) -> dict[str, list[str]]:
    """Each item to `raters` different annotators (those in `everyone` to all of them), loads equal to within one item.

    `load` is what the annotators have already. Neighbouring items get different groups, so that everybody can be compared
    with everybody. ValueError if there are fewer annotators than that.
    """
    if not 1 <= raters <= len(annotators):
        raise ValueError(f"{raters} raters for each item, but {len(annotators)} annotators")
    special = set(everyone)
    counts = {name: (load or {}).get(name, 0) for name in annotators}
    together: dict[frozenset[str], int] = defaultdict(int)
    assigned: dict[str, list[str]] = {}
    for item in items:
        if item in special:
            assigned[item] = list(annotators)
            continue
        chosen: list[str] = []
        for _ in range(raters):
            rest = [name for name in annotators if name not in chosen]
            chosen.append(min(rest, key=lambda name: (counts[name], _shared(together, chosen, name), name)))
            counts[chosen[-1]] += 1
        for i, first in enumerate(chosen):
            for second in chosen[i + 1 :]:
                together[frozenset((first, second))] += 1
        assigned[item] = sorted(chosen)
    return assigned


def _shared(together: Mapping[frozenset[str], int], chosen: Sequence[str], name: str) -> int:
    return sum(together.get(frozenset((name, other)), 0) for other in chosen)


def cold(ids: Sequence[str], share: float, rng: np.random.Generator) -> set[str]:
    """The ids that get no pre-annotation: they hide the gold samples and show how much pre-annotations lead people."""
    return {ids[i] for i in rng.permutation(len(ids))[: round(share * len(ids))]}


def disagreement(heuristic: np.ndarray, reward: np.ndarray) -> float:
    """How interesting a sample is: mean |difference| of two float32 (H, W) maps over their union's weight, 0…1."""
    union = float(np.maximum(heuristic, reward).sum())
    return float(np.abs(heuristic - reward).sum()) / union if union > 1e-6 * heuristic.size else 0.0
