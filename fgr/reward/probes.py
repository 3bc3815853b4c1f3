"""Probes of a reward model beside its labels: defects, ascent, invariances, tuned networks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np

from fgr.dataset import cells
from fgr.dataset.tables import evenly_drawn
from fgr.errors import UserError, nearest
from fgr.reward.ascent import ascent
from fgr.reward.invariances import invariances
from fgr.reward.planted_probe import Judge, Pairs, Probe
from fgr.reward.randomize import Randomized
from fgr.reward.score import score_many
from fgr.reward.system_closure import SystemClosure

PROBES = ("planted", "random", "approach", "ascent", "invariances", "systems")
PARTS = ("labels", *PROBES)
CHEAP = ("labels", "planted", "random", "approach", "invariances")  # what is measured unless parts are named
LARGEST = 512  # side of what is cut out of the middle of larger images
TILE_SHARE = 2  # an image's side is so many tiles where tiles are compared with the whole


@dataclass(frozen=True, slots=True)
class Planting:
    """What the recipe of a reward model says of planted defects: None where it says nothing, as before version 0.2."""

    share: float | None = None
    held_out: Collection[str] = field(default=())
    held_out_periods: Collection[int] = field(default=())

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any] | None) -> "Planting":
        """As the recipe in run.json has it; kinds are held out only where others were planted."""
        settings = (recipe or {}).get("planted")
        if not isinstance(settings, Mapping):
            return cls()
        share = float(settings.get("share", 0))
        return cls(share, settings.get("held_out", ()), settings.get("held_out_periods", ())) if share else cls(0.0)


def expect_parts(parts: Sequence[str], systems: Sequence[str]) -> list[str]:
    """The parts to measure: `systems` where there are any. UserError: an unknown part, none, systems that are not named."""
    for part in parts:
        if part not in PARTS:
            raise UserError(f"There is no part '{part}'{nearest(part, [*PARTS])}", f"Known: {', '.join(PARTS)}.")
    if not parts:
        raise UserError("No part of the evaluation is named.", f"Known: {', '.join(PARTS)}.")
    if "systems" in parts and not systems:
        raise UserError(
            "The part systems needs networks.", "Name them with --systems, and what they were tuned from with --start."
        )
    return list(dict.fromkeys([*parts, *(["systems"] if systems else [])]))


def measured(
    model: Any, rows: Any, parts: Collection[str], images: int, planting: Planting, closure: SystemClosure | None,
    done: Callable[[str], None], draws: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """What `parts` find: by part, beside `pairs` and the `gap`. Of the split's `rows` at most `images` references are taken.

    With `draws` images are judged by as many randomised copies. `done` is called after each part. UserError: no row to take.
    """
    chosen = chosen_rows(rows, images)
    judge: Judge = partial(score_many, model, draws=draws)
    pairs = Pairs(*(list(column) for column in zip(*map(_pair, chosen), strict=True)))
    probe = Probe(judge, pairs)
    found: dict[str, Any] = {
        "pairs": {"images": len(chosen), "photographs": len(set(pairs.photographs)), "largest": LARGEST},
        "gap": probe.gap(), "planting": {"share": planting.share},
    }  # fmt: skip
    measures: dict[str, Callable[[], Any]] = {
        "planted": lambda: probe.planted(planting.held_out, planting.held_out_periods),
        "random": probe.random,
        "approach": probe.approach,
        "ascent": lambda: ascent(Randomized(model, draws) if draws else model, probe),
        "invariances": lambda: _invariances(model, probe, draws),
        "systems": lambda: closure.measure(judge, chosen) if closure else None,
    }
    for name, measure in measures.items():
        if name in parts:
            found[name] = measure()
            done(name)
    return found


def chosen_rows(rows: Any, images: int) -> list[dict[str, Any]]:
    """Rows of at most `images` distinct references: of as many photographs as there are, SR models in turn; no shams.

    UserError if there is none.
    """
    by_photograph: dict[str, dict[str, list[int]]] = {}
    columns = (rows[name] for name in ("photo_id", "source_id", "mask_kind"))
    for number, (photograph, source, kind) in enumerate(zip(*columns, strict=True)):
        if kind != "sham":
            by_photograph.setdefault(photograph, {}).setdefault(source, []).append(number)
    if not by_photograph:
        raise UserError("The split has no row with an SR output to plant defects in.", "Name another --split, or --parts labels.")
    turns = zip_longest(*(sources.values() for sources in by_photograph.values()))
    sources = [source for turn in turns for source in turn if source]  # the first of every photograph, then the second
    count = len(by_photograph)
    drawn = [sources[number] for number in evenly_drawn(count, images)] if images < count else sources[:images]
    return [rows[numbers[turn % len(numbers)]] for turn, numbers in enumerate(drawn)]


def _pair(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    reference, sr = (middle(cells.pixels(row, name)) for name in ("reference", "sr"))
    return reference, sr, str(row["photo_id"])


def middle(image: np.ndarray, side: int = LARGEST) -> np.ndarray:
    """The middle of an image (H, W, …), at most `side` pixels a side."""
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _invariances(model: Any, probe: Probe, draws: int) -> dict[str, Any]:
    pairs = probe.pairs
    tile = max(model.multiple, max(pairs.outputs[0].shape[:2]) // TILE_SHARE)
    return invariances(
        partial(score_many, model, tile=0, draws=draws), partial(score_many, model, tile=tile, draws=draws), pairs.outputs,
        pairs.photographs,
        probe.gaps()["score"],
    )  # fmt: skip
