"""Whether a reward is being hacked: it rises on held-out images while held-out metrics fall. Pure.

Pure: arrays in. A measurement is float64 (n,), a value an image, the images the same every time. Changes are counted in standard
deviations over the images at the start, larger = better, so that decibels and scores can be averaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fgr.metrics.intervals import interval

Values = Mapping[str, np.ndarray]
SMALLEST_SD = 1e-6


@dataclass(frozen=True, slots=True)
class MetricRole:
    """What a metric is to the audit: its group, whether larger is better, and whether it counts or is only shown."""

    group: str
    better: int  # 1: larger, −1: smaller
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Changes since the start: of the trained reward, of the held-out metrics (mean of their groups), and of each group."""

    reward: float
    held_out: float
    held_out_high: float  # upper end of its 95 % interval over images
    groups: dict[str, float]

    @property
    def hacking_index(self) -> float:
        """H(t): what the trained reward gained more than the held-out metrics did."""
        return self.reward - self.held_out


def change(start: np.ndarray, now: np.ndarray, better: int = 1) -> np.ndarray:
    """Each image's change (n,) in sd over images at the start, larger = better. ValueError unless all is finite and paired."""
    if start.shape != now.shape or not (np.isfinite(start).all() and np.isfinite(now).all()):
        raise ValueError(f"expected paired finite values, got {start.shape} and {now.shape}")
    return better * (now - start) / max(float(start.std()), SMALLEST_SD)


def assess(start: Values, now: Values, metrics: Mapping[str, MetricRole], reward: tuple[np.ndarray, np.ndarray]) -> Verdict:
    """Compare `now` with `start`; `reward` is the trained reward at both. A group is the mean of its metrics, and
    `held_out` that of the groups; metrics that do not count are left out."""
    gains: dict[str, list[np.ndarray]] = {}
    for name, metric in metrics.items():
        if metric.counts:
            gains.setdefault(metric.group, []).append(change(start[name], now[name], metric.better))
    groups = {name: np.mean(found, axis=0) for name, found in gains.items()}
    held_out = np.mean(list(groups.values()), axis=0) if groups else np.zeros_like(reward[0])
    high = interval(held_out)[1] if groups else 0.0
    return Verdict(
        float(change(*reward).mean()), float(held_out.mean()), high, {name: float(gain.mean()) for name, gain in groups.items()}
    )


def is_hacked(verdict: Verdict, rise: float, fall: float, outrun: float) -> str:
    """Why the reward is being hacked, or an empty text.

    It is where the reward rose by `rise` or more while the held-out metrics surely fell, by `fall` or more; and where the reward
    outran them by `outrun`: artifacts that no held-out metric knows yet show in a reward that rises as no picture has.
    """
    if verdict.reward >= rise and verdict.held_out <= -fall and verdict.held_out_high < 0:
        return f"the reward rose by {verdict.reward:.2f} sd while the held-out metrics fell by {-verdict.held_out:.2f}"
    if verdict.reward >= rise and verdict.hacking_index >= outrun:
        return f"the reward rose by {verdict.reward:.2f} sd, the held-out metrics by {verdict.held_out:.2f}"
    return ""


def is_better(verdict: Verdict, best: float | None) -> bool:
    """Whether a checkpoint beats the best so far: by the held-out metrics alone, never by the trained reward."""
    return best is None or verdict.held_out > best


def compared(start: Values, end: Values, metrics: Mapping[str, MetricRole]) -> list[dict[str, object]]:
    """A row a metric: mean at the start and the end, mean difference with its interval, and the share of images that gained."""
    rows: list[dict[str, object]] = []
    for name, metric in metrics.items():
        difference = end[name] - start[name]
        low, high = interval(difference)
        rows.append({
            "metric": name, "group": metric.group, "better": metric.better, "counts": metric.counts,
            "start": float(start[name].mean()), "end": float(end[name].mean()), "difference": float(difference.mean()),
            "low": low, "high": high, "won": float((metric.better * difference > 0).mean()),
        })  # fmt: skip
    return rows
