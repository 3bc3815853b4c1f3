"""The planted battery: does a judge's score fall, and its map rise, when known defects are planted? Pure.

A judge gives images a score (larger = better) and a map (larger = worse): a reward model, or anything else. References and the SR
outputs made of them are judged plain and with each defect of `fixed_defects.BATTERY`; the changes count in units of the gap
between the SR outputs and their references, so that judges of different scales compare. All intervals are by photograph.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgr.images.fixed_defects import BATTERY, Change, FixedDefect, random_steps
from fgr.metrics.intervals import interval, ratio, summary
from fgr.reward.score import worst

Judge = Callable[[Sequence[np.ndarray]], Iterable[tuple[float, np.ndarray]]]  # uint8 (H, W, 3) images → score and map of each
WORST = 0.05  # share of a map's pixels whose mean is its severity
STEPS = (1, 2)  # of 255, of the random change


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge says of images: `scores` (N,), and `severities` (N,), the means of the worst 5 % of their maps."""

    scores: np.ndarray
    severities: np.ndarray


@dataclass(frozen=True, slots=True)
class Pairs:
    """References and SR outputs of them, uint8 (H, W, 3) each, and the photograph that each pair is of."""

    references: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    photographs: Sequence[str]


class Battery:
    """A judge's opinion of plain pairs, and of what is done to them. `judge` is asked for the plain images once, here."""

    def __init__(self, judge: Judge, pairs: Pairs, seed: int = 0) -> None:
        self.judge, self.pairs, self.seed = judge, pairs, seed
        self.references, self.outputs = judged(judge, pairs.references), judged(judge, pairs.outputs)

    def gap(self) -> dict[str, dict[str, float]]:
        """By how much the references are better than the SR outputs: of `score` and `map`, mean and interval."""
        return {name: summary(values, self.pairs.photographs) for name, values in self._gaps().items()}

    def planted(
        self, held_out: Collection[str] = (), held_out_periods: Collection[int] = (), battery: Mapping[str, FixedDefect] = BATTERY
    ) -> dict[str, Any]:
        """Each defect of `battery` on references and on SR outputs, and how many of those that count are right.

        `kinds`: name → `kind`, `period`, `held_out` (its kind or its period was never planted in training), `apart`, and for
        `reference` and `sr` the effects of `effect`. `right`: how many are right on each, for `score` and `map`, `of` how many.
        """
        kinds: dict[str, dict[str, Any]] = {
            name: {
                "kind": defect.kind, "period": defect.period, "apart": defect.apart,
                "held_out": defect.kind in held_out or defect.period in held_out_periods,
                "reference": self.effect(self.pairs.references, self.references, defect.change, name),
                "sr": self.effect(self.pairs.outputs, self.outputs, defect.change, name),
            }
            for name, defect in battery.items()
        }  # fmt: skip
        counted = [kind for kind in kinds.values() if not kind["apart"]]
        right = {
            figure: {on: sum(kind[on][figure]["right"] is True for kind in counted) for on in ("reference", "sr")}
            for figure in ("score", "map")
        }
        return {"kinds": kinds, "right": right | {"of": len(counted)}}

    def random(self, steps: Sequence[int] = STEPS) -> dict[str, Any]:
        """SR outputs with every value changed at random by ± each of `steps`: `effect` by step. A good judge hardly cares."""
        return {str(step): self.effect(self.pairs.outputs, self.outputs, _stepped(step), f"random {step}") for step in steps}

    def effect(self, images: Sequence[np.ndarray], plain: Judged, change: Change, name: str) -> dict[str, Any]:
        """What `change` does to the judgement of `images`, which unchanged is `plain`; see `compared`."""
        changed = (change(image, self._rng(name, number)) for number, image in enumerate(images))
        return self.compared(plain, judged(self.judge, list(changed)))

    def compared(self, before: Judged, after: Judged) -> dict[str, Any]:
        """`score` and `map`: mean `change` with its interval (`low`, `high`), the same in units of the gap (`gaps`, `gaps_low`,
        `gaps_high`; positive = as if better, for the map too: it fell), and `right`: whether the interval says worse. None if
        there are too few photographs for an interval."""
        differences = {"score": after.scores - before.scores, "map": after.severities - before.severities}
        found = {}
        for name, better in (("score", 1), ("map", -1)):
            low, high = interval(differences[name], self.pairs.photographs)
            gaps = ratio(better * differences[name], self._gaps()[name], self.pairs.photographs)
            found[name] = {
                "change": float(differences[name].mean()), "low": low, "high": high,
                "gaps": gaps["value"], "gaps_low": gaps["low"], "gaps_high": gaps["high"],
                "right": None if low != low else bool(high < 0 if better > 0 else low > 0),
            }  # fmt: skip
        return found

    def _gaps(self) -> dict[str, np.ndarray]:
        """Each pair's gap (N,): positive where the reference is judged better."""
        return {
            "score": self.references.scores - self.outputs.scores,
            "map": self.outputs.severities - self.references.severities,
        }

    def _rng(self, name: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), number])


def judged(judge: Judge, images: Sequence[np.ndarray]) -> Judged:
    """Scores and severities of images. ValueError unless all of them are finite."""
    scores, severities = [], []
    for score, map_ in judge(images):
        scores.append(float(score))
        severities.append(worst(map_, WORST))
    found = Judged(np.array(scores), np.array(severities))
    if len(scores) != len(images) or not (np.isfinite(found.scores).all() and np.isfinite(found.severities).all()):
        raise ValueError(f"the judge gave {len(scores)} judgements of {len(images)} images, or some that are not finite")
    return found


def _stepped(step: int) -> Change:
    return lambda image, rng: random_steps(image, step, rng)
