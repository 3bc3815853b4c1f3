"""Gap closure: how much of the way from a start to the references an output has come. Pure.

c = (m(output) − m(start)) / (m(reference) − m(start)), m the mean of a figure over images: 0 = nothing gained, 1 = as good as the
references. It has no unit, so that a reward, 1 − SSIM and a feature distance can be held against each other. Where a reward
closes much more of its gap than full-reference figures close of theirs, it has been bought: artifacts please it.

Images of one photograph are no independent evidence: intervals are 95 % percentile intervals over photographs (cluster
bootstrap), the same draws for every figure, so that differences of closures are differences of pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fgr.metrics.intervals import RESAMPLES, interval

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Gap:
    """A figure of images (N,): of the start, the output and the reference; `better` 1: larger is better, −1: smaller.

    ValueError unless all three are finite and of one length.
    """

    start: np.ndarray
    output: np.ndarray
    reference: np.ndarray
    better: int = 1

    def __post_init__(self) -> None:
        parts = (self.start, self.output, self.reference)
        if len({part.shape for part in parts}) > 1 or self.start.ndim != 1 or not all(np.isfinite(part).all() for part in parts):
            raise ValueError(f"expected finite values of the same images, got {[part.shape for part in parts]}")

    def is_open(self, photographs: Sequence[str]) -> bool:
        """Whether the figure surely puts the references above the start; otherwise there is no gap to close."""
        width = self.better * (self.reference - self.start)
        low = interval(width, photographs)[0]
        return bool(width.mean() > 0 and not low <= 0)  # one photograph has no interval: nan


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the ends of its 95 % interval over photographs; nan where there is none."""

    value: float
    low: float
    high: float

    @property
    def surely_above(self) -> float:
        """What it is surely above: the interval's lower end, or the value itself where one photograph gives no interval."""
        return self.low if np.isfinite(self.low) else self.value

    @property
    def surely_below(self) -> float:
        """The same for the upper end."""
        return self.high if np.isfinite(self.high) else self.value


NONE = Estimate(NAN, NAN, NAN)


def closure(gap: Gap, photographs: Sequence[str]) -> Estimate:
    """How much of the gap is closed; `NONE` where the figure does not put the references above the start."""
    return lead([gap], [], photographs)


def lead(ahead: Sequence[Gap], behind: Sequence[Gap], photographs: Sequence[str]) -> Estimate:
    """The mean closure of the figures `ahead` less that of those `behind`, where there are any; figures without a gap are left
    out of the means. `NONE` where no figure is left on a side that had any."""
    sides = [[gap for gap in side if gap.is_open(photographs)] for side in (ahead, behind)]
    if not sides[0] or (behind and not sides[1]):
        return NONE
    index, drawn = _drawn(photographs)
    value = _mean_ratio(sides[0], index, None) - _mean_ratio(sides[1], index, None)
    if drawn is None:
        return Estimate(float(value[0]), NAN, NAN)
    values = _mean_ratio(sides[0], index, drawn) - _mean_ratio(sides[1], index, drawn)
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(float(value[0]), float(low), float(high))


def by_photograph(gap: Gap, photographs: Sequence[str]) -> dict[str, float]:
    """Each photograph's gain over the mean gap of all: their mean, by images, is the closure. (Over its own gap a photograph
    that has hardly any would be infinitely far.) Empty where there is no gap."""
    if not gap.is_open(photographs):
        return {}
    width = float((gap.reference - gap.start).mean())
    names = np.asarray(photographs, dtype=str)
    return {name: float((gap.output - gap.start)[names == name].mean()) / width for name in dict.fromkeys(names.tolist())}


def above_reference(gap: Gap, photographs: Sequence[str]) -> Estimate:
    """The share of images that the figure puts above their own references."""
    above = (gap.better * (gap.output - gap.reference) > 0).astype(float)
    return Estimate(float(above.mean()), *interval(above, photographs))


def compared(
    gaps: Mapping[str, Gap], rewards: Sequence[str], similarity: str | None, photographs: Sequence[str]
) -> dict[str, Any]:
    """By figure the `closure` of its gap; of those of a reward the `lead` over a full-reference figure `similarity`, if there is
    one, and `above_reference`; each with `value`, `low` and `high`."""
    found = {"closure": {name: closure(gap, photographs) for name, gap in gaps.items()}}
    found["lead"] = {name: lead([gaps[name]], [gaps[similarity]], photographs) for name in rewards if similarity}
    found["above_reference"] = {name: above_reference(gaps[name], photographs) for name in rewards}
    return {part: {name: asdict(one) for name, one in estimates.items()} for part, estimates in found.items()}


def _mean_ratio(gaps: Sequence[Gap], index: np.ndarray, drawn: np.ndarray | None) -> np.ndarray:
    """The mean over figures of Σ gain / Σ gap: of all photographs (1,), or of each draw (RESAMPLES,)."""
    if not gaps:
        return np.zeros(1)
    ratios = []
    for gap in gaps:
        gain, width = (np.bincount(index, weights=part - gap.start) for part in (gap.output, gap.reference))
        ratios.append(gain[drawn].sum(1) / width[drawn].sum(1) if drawn is not None else gain.sum(keepdims=True) / width.sum())
    return np.asarray(np.mean(ratios, axis=0))


def _drawn(photographs: Sequence[str], seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """The number of each image's photograph, and photographs drawn with replacement (RESAMPLES, n); None for a single one."""
    index = np.unique(np.asarray(photographs, dtype=str), return_inverse=True)[1]
    count = int(index.max(initial=-1)) + 1
    if count < 2:
        return index, None
    return index, np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
