"""The planted yardstick: known defects, and which figures say that they are worse. Pure.

A figure that prefers a defect to its absence cannot say whether a reward is being hacked: it loses its vote in the run. Defects
are planted in held-out references and in the untuned network's outputs, each severity at the same 1 − SSIM to what it is planted
in, whatever the kind. What is planted in an output counts only where the result is clearly farther from the reference than the
output itself: a sharpened output can be the better one.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fgr.images import defects
from fgr.images.structural import ssim_difference
from fgr.metrics.gap_closure import Estimate
from fgr.metrics.intervals import interval
from fgr.rlhf.changes import MetricRole, Values

SEVERITIES = (0.02, 0.05, 0.1, 0.2)  # mean 1 − SSIM to the image that the defect is planted in; SR outputs are at 0.2 to 0.4
CLEARLY = 0.25  # share of what it was changed by, by which a planted output must be farther from the reference to count as worse
ON = ("reference", "start")


@dataclass(frozen=True, slots=True)
class Planted:
    """An image, uint8 (H, W, 3), with a defect of `kind` in the severity of this number; made of image `of` of the sort `on`."""

    kind: str
    severity: int
    on: str
    of: int
    image: np.ndarray
    counts: bool  # whether it is clearly farther from the reference than what it was made of


def plant(references: Sequence[np.ndarray], starts: Sequence[np.ndarray], seed: int = 0) -> list[Planted]:
    """Every kind of defect in every severity in every image; `starts` are outputs of the same places as `references`."""
    found = []
    for on, images in zip(ON, (references, starts), strict=True):
        for of, (image, reference) in enumerate(zip(images, references, strict=True)):
            before = _distance(image, reference)
            for kind in defects.KINDS:
                for severity, target in enumerate(SEVERITIES):
                    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), of])  # the same defect in each severity
                    planted, _ = defects.matched(image, kind, target, _distance, rng)
                    farther = _distance(planted, reference) - before
                    counts = farther > CLEARLY * _distance(planted, image)
                    found.append(Planted(kind, severity, on, of, planted, counts))
    return found


def judged(
    planted: Sequence[Planted], values: Values, plain: Mapping[str, Values], metrics: Mapping[str, MetricRole],
    photographs: Sequence[str],
) -> list[dict[str, object]]:  # fmt: skip
    """A row a figure, kind and sort of image: the mean change of each severity, larger = better, in units of the figure's gap
    from the starts to the references, and what it says: `right` (worse), `wrong` (surely better), `unsure`, or `none` where
    nothing counts.

    `values`: figures of the planted images (N,); `plain`: of the images before, by sort (n,); `photographs` (n,).
    """
    rows: list[dict[str, object]] = []
    sorts = np.array([one.on for one in planted])
    kinds, severities = np.array([one.kind for one in planted]), np.array([one.severity for one in planted])
    of, counts = np.array([one.of for one in planted]), np.array([one.counts for one in planted])
    names = np.asarray(photographs, dtype=str)
    for figure, metric in metrics.items():
        gap = metric.better * float((plain["reference"][figure] - plain["start"][figure]).mean())
        change = metric.better * (values[figure] - np.where(sorts == "reference", *(plain[on][figure][of] for on in ON)))
        unit = max(abs(gap), 1e-9)
        for on in ON:
            for kind in dict.fromkeys(kinds.tolist()):
                chosen = (sorts == on) & (kinds == kind) & counts
                means = [_mean(change[chosen & (severities == severity)]) / unit for severity in range(len(SEVERITIES))]
                verdict = _verdict(change[chosen], names[of[chosen]].tolist())
                rows.append({"figure": figure, "kind": kind, "on": on, "gaps": means, "says": verdict})
    return rows


def without_vote(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The figures that surely prefer a kind of defect to its absence."""
    return list(dict.fromkeys(str(row["figure"]) for row in rows if row["says"] == "wrong"))


def _verdict(changes: np.ndarray, photographs: Sequence[str]) -> str:
    if not len(changes):
        return "none"
    found = Estimate(float(changes.mean()), *interval(changes, photographs))
    return "wrong" if found.surely_above > 0 else "right" if found.surely_below < 0 else "unsure"


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(ssim_difference(a, b).mean())
