"""Changes since the start in standard deviations over images. Pure.

They move the curriculum, and are all that an audit without references has.

A measurement is float64 (n,), a value an image, the images the same every time. Changes are counted in standard deviations over
the images at the start, larger = better, so that decibels and scores can be averaged. They depend on how much images differ:
whether a reward is hacked is said by gap closures (`fgr.rlhf.audit`) wherever there are references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fgr.metrics.gap_closure import Estimate
from fgr.metrics.intervals import interval

Values = Mapping[str, np.ndarray]
SMALLEST_SD = 1e-6
NO_REFERENCE = ("naturalness", "quality")  # groups of figures that need no reference: they can be bought one by one


@dataclass(frozen=True, slots=True)
class MetricRole:
    """What a metric is to the audit: its group, whether larger is better, and whether it counts or is only shown."""

    group: str
    better: int  # 1: larger, −1: smaller
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes since the start: of the trained reward, of the held-out metrics (mean of their groups), and of each group."""

    reward: float
    held_out: Estimate  # its interval is over photographs
    groups: dict[str, float]

    @property
    def least(self) -> float:
        """The held-out metrics' change without the group of no-reference figures that helps most: no single one of them makes
        a checkpoint the best."""
        without = [[gain for name, gain in self.groups.items() if name != left] for left in self.groups if left in NO_REFERENCE]
        means = [float(np.mean(gains)) for gains in without if gains]
        return min([self.held_out.value, *means])


def change(start: np.ndarray, now: np.ndarray, better: int = 1) -> np.ndarray:
    """Each image's change (n,) in sd over images at the start, larger = better. ValueError unless all is finite and paired."""
    if start.shape != now.shape or not (np.isfinite(start).all() and np.isfinite(now).all()):
        raise ValueError(f"expected paired finite values, got {start.shape} and {now.shape}")
    return better * (now - start) / max(float(start.std()), SMALLEST_SD)


def measured(
    start: Values, now: Values, metrics: Mapping[str, MetricRole], reward: tuple[np.ndarray, np.ndarray],
    photographs: Sequence[str],
) -> Changes:  # fmt: skip
    """Compare `now` with `start`; `reward` is the trained reward at both, `photographs` each image's. A group is the mean of its
    metrics, and `held_out` that of the groups; metrics that do not count are left out."""
    gains: dict[str, list[np.ndarray]] = {}
    for name, metric in metrics.items():
        if metric.counts:
            gains.setdefault(metric.group, []).append(change(start[name], now[name], metric.better))
    groups = {name: np.mean(found, axis=0) for name, found in gains.items()}
    held_out = np.mean(list(groups.values()), axis=0) if groups else np.zeros_like(reward[0])
    estimate = Estimate(float(held_out.mean()), *interval(held_out, photographs))
    return Changes(float(change(*reward).mean()), estimate, {name: float(gain.mean()) for name, gain in groups.items()})


def fell_while_the_reward_rose(changes: Changes, rise: float, fall: float) -> str:
    """Why that is reward hacking, or an empty text: the reward rose by `rise` sd or more while the held-out metrics surely fell,
    by `fall` or more."""
    if changes.groups and changes.reward >= rise and changes.held_out.value <= -fall and changes.held_out.surely_below < 0:
        return f"the reward rose by {changes.reward:.2f} sd while the held-out metrics fell by {-changes.held_out.value:.2f}"
    return ""


def compared(
    start: Values, end: Values, metrics: Mapping[str, MetricRole], photographs: Sequence[str]
) -> list[dict[str, object]]:
    """A row a metric: mean at the start and the end, mean difference with its interval over photographs, and the share of images
    that gained."""
    rows: list[dict[str, object]] = []
    for name, metric in metrics.items():
        difference = end[name] - start[name]
        low, high = interval(difference, photographs)
        rows.append({
            "metric": name, "group": metric.group, "better": metric.better, "counts": metric.counts,
            "start": float(start[name].mean()), "end": float(end[name].mean()), "difference": float(difference.mean()),
            "low": low, "high": high, "won": float((metric.better * difference > 0).mean()),
        })  # fmt: skip
    return rows
