"""Planted defects: does a judge's score fall, and its map rise, when they are there? Pure.

A judge gives images a score (larger = better) and a map (larger = worse): a reward model, or anything else. References and the SR
outputs made of them are judged plain and with each defect of `fixed_defects.FIXED`; the changes count in units of the gap
between the SR outputs and their references, so that judges of different scales compare. All intervals are by photograph.
"""

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgr.images.fixed_defects import FIXED, Change, FixedDefect, random_steps
from fgr.images.structural import ssim_difference
from fgr.metrics.intervals import interval, ratio, summary
from fgr.reward.score import worst

Judge = Callable[[Sequence[np.ndarray]], Iterable[tuple[float, np.ndarray]]]  # uint8 (H, W, 3) images → score and map of each
WORST = 0.05  # share of a map's pixels whose mean is its severity
NAN = float("nan")
STEPS = (1, 2)  # of 255, of the random change
SHARES = (0.1, 0.25, 0.5)  # of the way from SR outputs to their references


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


class Probe:
    """A judge's opinion of plain pairs, and of what is done to them. `judge` is asked for the plain images once, here."""

    def __init__(self, judge: Judge, pairs: Pairs, seed: int = 0) -> None:
        self.judge, self.pairs, self.seed = judge, pairs, seed
        self.references, self.outputs = judged(judge, pairs.references), judged(judge, pairs.outputs)

    def gap(self) -> dict[str, dict[str, float]]:
        """By how much the references are better than the SR outputs: of `score` and `map`, mean and interval."""
        return {name: summary(values, self.pairs.photographs) for name, values in self.gaps().items()}

    def planted(
        self, held_out: Collection[str] = (), held_out_periods: Collection[int] = (), defects: Mapping[str, FixedDefect] = FIXED
    ) -> dict[str, Any]:
        """Each defect of `defects` on references and on SR outputs, and how many of those that count are right.

        `kinds`: name → `kind`, `period`, `held_out` (its kind or its period was never planted in training), `apart`, and for
        `reference` and `sr` what `compared` says. `right`: how many are right on each, for `score` and `map`, `of` how many.
        SR outputs that a defect which may help brings nearer to their references are left out: they need not be worse.
        """
        kinds: dict[str, dict[str, Any]] = {
            name: {
                "kind": defect.kind, "period": defect.period, "apart": defect.apart,
                "held_out": defect.kind in held_out or defect.period in held_out_periods,
                "reference": self._on(self.pairs.references, self.references, defect.change, name),
                "sr": self._on(self.pairs.outputs, self.outputs, defect.change, name, defect.may_help),
            }
            for name, defect in defects.items()
        }  # fmt: skip
        counted = [kind for kind in kinds.values() if not kind["apart"]]
        right = {
            figure: {on: sum(kind[on][figure]["right"] is True for kind in counted) for on in ("reference", "sr")}
            for figure in ("score", "map")
        }
        return {"kinds": kinds, "right": right | {"of": len(counted)}}

    def random(self, steps: Sequence[int] = STEPS) -> dict[str, Any]:
        """`compared` by step: SR outputs with every value changed by + or − that many 255ths at random. Nobody sees that."""
        return {str(step): self._on(self.pairs.outputs, self.outputs, _stepped(step), f"random {step}") for step in steps}

    def approach(self, shares: Sequence[float] = SHARES) -> dict[str, Any]:
        """`compared` by share of the way: SR outputs moved so far, pixel by pixel, to their references, and `ssim`, the share of
        its gap that 1 − SSIM says is closed then.

        A policy climbs in small steps. A score that rises at the end of the way alone teaches it nothing, however well it orders.
        """
        goals, outputs = self.pairs.references, self.pairs.outputs
        start = np.array([float(ssim_difference(goal, output).mean()) for goal, output in zip(goals, outputs, strict=True)])
        found = {}
        for share in shares:
            moved = [_moved(output, goal, share) for goal, output in zip(goals, outputs, strict=True)]
            left = np.array([float(ssim_difference(goal, image).mean()) for goal, image in zip(goals, moved, strict=True)])
            closed = ratio(start - left, start, self.pairs.photographs)
            found[f"{share:g}"] = self.compared(self.outputs, judged(self.judge, moved)) | {"ssim": closed}
        return found

    def compared(self, before: Judged, after: Judged, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """What changed between two judgements, of the pairs of these `numbers` or of all.

        `images`, how many; for `score` and `map` the mean `change` with its interval (`low`, `high`), the same in units of the
        gap (`gaps`, `gaps_low`, `gaps_high`; positive = as if better, for the map too: it fell), and `right`: whether the
        interval says that it got worse, None if there are too few photographs for one.
        """
        chosen = list(range(len(self.pairs.photographs))) if numbers is None else list(numbers)
        photographs = [self.pairs.photographs[number] for number in chosen]
        differences = {"score": after.scores - before.scores, "map": after.severities - before.severities}
        found: dict[str, Any] = {"images": len(chosen)}
        for name, better in (("score", 1), ("map", -1)):
            low, high = interval(differences[name], photographs)
            gaps = ratio(better * differences[name], self.gaps()[name][chosen], photographs)
            found[name] = {
                "change": float(differences[name].mean()) if len(chosen) else NAN, "low": low, "high": high,
                "gaps": gaps["value"], "gaps_low": gaps["low"], "gaps_high": gaps["high"],
                "right": None if low != low else bool(high < 0 if better > 0 else low > 0),
            }  # fmt: skip
        return found

    def _on(
        self, images: Sequence[np.ndarray], plain: Judged, change: Change, name: str, farther_only: bool = False
    ) -> dict[str, Any]:
        changed = [change(image, self._rng(name, number)) for number, image in enumerate(images)]
        triples = enumerate(zip(self.pairs.references, images, changed, strict=True))
        numbers = [number for number, triple in triples if not (farther_only and _is_nearer(*triple))]
        before = Judged(plain.scores[numbers], plain.severities[numbers])
        return self.compared(before, judged(self.judge, [changed[number] for number in numbers]), numbers)

    def gaps(self) -> dict[str, np.ndarray]:
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


def _is_nearer(goal: np.ndarray, before: np.ndarray, after: np.ndarray) -> bool:
    """Whether `after` is nearer to `goal` than `before`, in structure and in value."""
    structure = [float(ssim_difference(image, goal).mean()) for image in (before, after)]
    value = [float(np.abs(image.astype(np.float32) - goal).mean()) for image in (before, after)]
    return structure[1] < structure[0] and value[1] < value[0]


def _moved(image: np.ndarray, goal: np.ndarray, share: float) -> np.ndarray:
    return np.rint(image + share * (goal.astype(np.float32) - image)).astype(np.uint8)


def _stepped(step: int) -> Change:
    return lambda image, rng: random_steps(image, step, rng)
