"""`fgr annotate`, verb by verb: recipes stop here."""

import getpass
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgr import recipe as recipes
from fgr.annotate import decide, select, tasks
from fgr.annotate import plan as plans
from fgr.annotate import pull as pulls
from fgr.annotate import push as pushes
from fgr.annotate import status as statuses
from fgr.annotate.answers import TOKENS
from fgr.annotate.consensus import Bounds
from fgr.annotate.plan import Entry, Plan
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.progress import Progress

VARIABLE = "LABEL_STUDIO_API_KEY"
COLUMNS = ("id", "source_id", "model", "mask_kind", "mask_area", "score")
FREE = ("select", "consensus")  # parts of the recipe that may change between pushes


def token() -> str:
    """The Label Studio token from the environment or from a prompt without echo. UserError if there is neither."""
    found = os.environ.get(VARIABLE, "").strip()
    if not found and sys.stdin.isatty():
        found = getpass.getpass("Label Studio token: ").strip()
    if not found:
        raise UserError(f"There is no Label Studio token: {VARIABLE} is not set.", TOKENS)
    return found


def push(
    recipe: Any, directory: Path, url: str, key: str, folder: Path | None = None, predict: pushes.Predict | None = None
) -> tuple[Plan, int]:
    """Make or find the project(s) and add the tasks that are missing; the plan and the number added.

    `folder` is where the server serves files from (images: folder). `predict` is a reward model's forward.
    """
    if (recipe.images == "folder") != (folder is not None):
        raise UserError("Images are served from a folder only with both images=folder and --files.", "Give both or neither.")
    if recipe.prediction.source == "reward" and predict is None:
        raise UserError("prediction.source=reward needs a reward model.", "Name it with --reward.")
    plan = extended(recipe, directory, url, predict)
    look = pushes.Look(
        recipe.interface, recipe.reference, folder, recipe.prediction.source,
        recipe.prediction.smooth, recipe.prediction.floor, recipe.prediction.min_area,
    )  # fmt: skip
    with Studio(url, key) as studio:
        studio.me()
        plans.save(directory, plan)  # not before: a mistaken address or token must not bind the project to it
        return plan, pushes.push(studio, directory, plan, look, 1 if recipe.annotators else recipe.overlap, predict)


def extended(recipe: Any, directory: Path, url: str, predict: pushes.Predict | None) -> Plan:
    """The project's plan: what was planned before, and what the recipe's selection adds. UserError for another recipe."""
    plan, url = plans.load(directory, recipe.name), url.rstrip("/")
    resolved = recipes.resolved(recipe)
    if plan is None:
        titles = {name: f"{recipe.name} · {name}" for name in recipe.annotators} or {"": recipe.name}
        plan = Plan(recipe.name, url, resolved, titles)
    old, new = ({name: value for name, value in tree.items() if name not in FREE} for tree in (plan.recipe, resolved))
    changed = recipes.differences(old, new)
    if plan.url != url:
        changed.append(f"url: {plan.url} there, {url} here")
    if changed:
        raise UserError(
            f"The project '{recipe.name}' was pushed with another recipe: {'; '.join(changed)}.",
            "Use the same values, or name another project: --project NAME",
        )
    candidates = _candidates(directory, recipe)
    if recipe.interface == "preference":
        return replace(plan, recipe=resolved, entries=plan.entries + _new_pairs(recipe, candidates, plan))
    if predict is not None and recipe.select.pool > 1:
        candidates = _by_interest(directory, candidates, recipe, predict)
    return replace(plan, recipe=resolved, entries=plan.entries + _new_samples(recipe, candidates, plan))


def _candidates(directory: Path, recipe: Any) -> list[select.Candidate]:
    rows = tables.read_rows(directory, "samples", COLUMNS, recipe.select.split)
    found = [select.candidate(row) for row in rows if not recipe.select.models or row["model"] in recipe.select.models]
    if not found:
        raise UserError(f"{directory} has no samples of the models {', '.join(recipe.select.models)}.", "See `fgr report`.")
    return found


def _new_samples(recipe: Any, candidates: list[select.Candidate], plan: Plan) -> tuple[Entry, ...]:
    have = {entry.key for entry in plan.entries}
    rng = np.random.default_rng([recipe.seed, len(have)])
    want = recipe.select.samples - sum(not entry.gold for entry in plan.entries)
    fresh = [candidate for candidate in candidates if candidate.id not in have]
    count = round(recipe.gold.share * recipe.select.samples) - len(plan.gold)
    golden = dict(select.gold(fresh, max(count, 0), recipe.gold.worst, recipe.gold.area, rng))
    ordinary = [candidate for candidate in fresh if candidate.id not in golden and candidate.mask_kind != "sham"]
    chosen = select.stratified(ordinary, max(want, 0), recipe.select.bins, rng)
    cold = select.cold(chosen, 1 - recipe.prediction.share, rng)
    everything = [*chosen, *golden]
    order = [everything[i] for i in rng.permutation(len(everything))]
    given = _assigned(recipe, plan, order, golden)
    return tuple(Entry(key, tuple(given[key]), golden.get(key, ""), key in cold) for key in order)


def _new_pairs(recipe: Any, candidates: list[select.Candidate], plan: Plan) -> tuple[Entry, ...]:
    have = {frozenset(entry.key.split(tasks.PAIR)) for entry in plan.entries}
    rng = np.random.default_rng([recipe.seed, len(have)])
    found = select.pairs(candidates, recipe.select.samples, rng)
    fresh = [pair for pair in found if frozenset(pair) not in have][: max(recipe.select.samples - len(have), 0)]
    if not found:
        raise UserError("No two samples share a reference, so there is nothing to compare.", "Use two or more SR models.")
    keys = [tasks.PAIR.join(pair) for pair in fresh]
    given = _assigned(recipe, plan, keys, ())
    return tuple(Entry(key, tuple(given[key])) for key in keys)


def _assigned(recipe: Any, plan: Plan, keys: list[str], everyone: Iterable[str]) -> dict[str, list[str]]:
    """Rooms by key: `overlap` of the named annotators' rooms, or the one room for all."""
    if not recipe.annotators:
        return {key: [""] for key in keys}
    load = {name: sum(name in entry.rooms for entry in plan.entries) for name in recipe.annotators}
    return select.assign(keys, recipe.annotators, recipe.overlap, everyone, load)


def _by_interest(
    directory: Path, candidates: list[select.Candidate], recipe: Any, predict: pushes.Predict
) -> list[select.Candidate]:
    """A random pool of candidates with their interest: how far the heuristic map and the reward model's map disagree."""
    rng = np.random.default_rng(recipe.seed)
    size = min(len(candidates), recipe.select.pool * recipe.select.samples)
    pool = {candidates[i].id: candidates[i] for i in rng.permutation(len(candidates))[:size]}
    pool |= {candidate.id: candidate for candidate in candidates if candidate.mask_kind == "sham"}
    found = []
    with Progress("look", len(pool), "samples") as progress:
        for row in pushes.rows(directory, set(pool)):
            values, _ = predict(codec.decode_rgb(row["composite"]))
            interest = select.disagreement(codec.decode_map(row["degradation_map"]), values)
            found.append(replace(pool[row["id"]], interest=interest))
            progress.advance()
    return found


def pull(directory: Path, name: str, key: str, everything: bool = False) -> pulls.Tally:
    """Bring people's work into `annotations` or `preferences`; changes since the last pull alone unless `everything`."""
    plan = plans.expect(directory, name)
    with Studio(plan.url, key) as studio:
        tally, plan = pulls.pull(studio, directory, plan, everything)
    plans.save(directory, plan)
    return tally


def status(directory: Path, name: str, key: str) -> dict[str, Any]:
    """How far the people are, as JSON values."""
    plan = plans.expect(directory, name)
    with Studio(plan.url, key) as studio:
        return statuses.status(studio, directory, plan, int(plan.recipe["overlap"]))


def consensus(recipe: Any, directory: Path) -> dict[str, Any]:
    """Write `consensus` from all annotations and preferences; the report on the annotators."""
    gold = {key: kind for plan in plans.known(directory) for key, kind in plan.gold.items()}
    knobs = recipe.consensus
    bounds = Bounds(knobs.min_gold, knobs.min_correlation, knobs.min_dice, knobs.min_seconds, knobs.min_work)
    return decide.decide(directory, gold, bounds, knobs.scores, knobs.maps)


def read_export(directory: Path, name: str, file: Path) -> pulls.Tally:
    """Bring a JSON or JSON-MIN export made by hand into `annotations` or `preferences`."""
    plan = plans.load(directory, name) or Plan(name, "", {}, {"": name})
    return pulls.from_file(directory, plan, file)
