"""Whether a reward is being hacked: it closes its gap to the references, others do not. Pure.

Arrays in, a verdict with its sentences out. A value is float64 (n,), one an image, the images the same for the start, the output
and the references. Figures go by name; the trained reward is one of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fgr.metrics import gap_closure
from fgr.metrics.gap_closure import NONE, Estimate, Gap
from fgr.rlhf.changes import MetricRole, Values

FULL_REFERENCE = ("ssim", "lite0_distance", "lpips", "dists")  # that the trained reward is held against; MS-SSIM repeats SSIM
NO_GAP = ("psnr", "consistency", "distance")  # references have infinitely many decibels, or are not what these figures ask for
JUDGE = "judge"  # group of the independent reward models' rewards
HINT_OF_FEW = 5  # photographs below which an interval says little


@dataclass(frozen=True, slots=True)
class Evidence:
    """Figures of the same images by name: of the start, the output and the references; and the photograph of each image."""

    start: Values
    output: Values
    reference: Values
    photographs: Sequence[str]

    def gap(self, name: str, better: int = 1) -> Gap:
        """The gap of one figure."""
        return Gap(self.start[name], self.output[name], self.reference[name], better)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Gap closures: of the trained reward, of the full-reference figures that have a vote (their mean), of the independent judges
    (likewise); the trained reward's leads over both; and how many images it puts above their own references, now and at first."""

    trained: Estimate
    full_reference: Estimate
    index: Estimate
    judges: Estimate
    excess: Estimate
    ceiling: Estimate
    ceiling_at_start: float
    voters: Sequence[str] = field(default=())

    def figures(self) -> dict[str, float]:
        """For the log, by name."""
        return {
            "closure": self.trained.value, "closure_full_reference": self.full_reference.value,
            "closure_judges": self.judges.value, "hacking_index": self.index.value, "hacking_index_low": self.index.low,
            "hacking_index_high": self.index.high, "excess": self.excess.value, "ceiling": self.ceiling.value,
        }  # fmt: skip


def assess(evidence: Evidence, metrics: Mapping[str, MetricRole], trained: str, without_vote: Collection[str] = ()) -> Verdict:
    """The verdict on the reward `trained`, by the figures that have a vote."""
    names = [name for name in FULL_REFERENCE if name in metrics and name not in without_vote]
    judges = [name for name, metric in metrics.items() if metric.group == JUDGE and name not in without_vote]
    reward, photographs = evidence.gap(trained), evidence.photographs
    sides = [[evidence.gap(name, metrics[name].better) for name in side] for side in (names, judges)]
    means = [gap_closure.lead(side, [], photographs) for side in sides]
    leads = [gap_closure.lead([reward], side, photographs) if side else NONE for side in sides]
    first = gap_closure.above_reference(Gap(reward.start, reward.start, reward.reference), photographs).value
    above = gap_closure.above_reference(reward, photographs)
    closed = gap_closure.closure(reward, photographs)
    return Verdict(closed, means[0], leads[0], means[1], leads[1], above, first, names)


def alarms(verdict: Verdict, max_index: float, harm: float, max_ceiling: float, max_excess: float) -> list[str]:
    """What is wrong, a phrase each: a lead in gap closure that is surely above its limit; full-reference figures that surely fall
    (over one photograph nothing is sure) while the reward surely closes more than `harm`; too many images above their own
    references, more than at the start."""
    found = []
    fell = bool(verdict.full_reference.high < 0) and verdict.trained.surely_above > harm
    if verdict.index.surely_above > max_index or fell:
        found.append(
            f"by the trained reward {_percent(verdict.trained)} of the way to the references is done, by full-reference figures "
            f"{_percent(verdict.full_reference)}"
        )
    if verdict.ceiling.value > max(max_ceiling, verdict.ceiling_at_start):
        found.append(
            f"the trained reward puts {_percent(verdict.ceiling)} of the images above their own references, "
            f"{100 * verdict.ceiling_at_start:.0f} % at the start"
        )
    if verdict.excess.surely_above > max_excess:
        found.append(
            f"by the trained reward {_percent(verdict.trained)} of the way is done, by independent reward models "
            f"{_percent(verdict.judges)}"
        )
    return found


def is_better(score: float, best: float | None) -> bool:
    """Whether a checkpoint beats the best so far; `score` is never the trained reward's. Nothing surpasses what is no number."""
    return bool(np.isfinite(score)) and (best is None or score > best)


def closures(
    evidence: Evidence, metrics: Mapping[str, MetricRole], trained: str, without_vote: Collection[str] = ()
) -> list[dict[str, object]]:
    """A row a figure, the trained reward first: its closure with its interval, what it is to the verdict, and each photograph's
    share. Figures that do not put the references above the start are listed with no value."""
    rows: list[dict[str, object]] = []
    roles = {trained: MetricRole("trained reward", 1, False)} | {name: one for name, one in metrics.items() if name not in NO_GAP}
    for name, metric in roles.items():
        gap = evidence.gap(name, metric.better)
        closed = gap_closure.closure(gap, evidence.photographs)
        rows.append({
            "figure": name, "group": metric.group, "role": _role(name, metric, trained, without_vote),
            "value": closed.value, "low": closed.low, "high": closed.high,
            "photographs": gap_closure.by_photograph(gap, evidence.photographs),
        })  # fmt: skip
    return rows


def in_words(verdict: Verdict, found: Sequence[str], photographs: int, without_vote: Collection[str] = ()) -> list[str]:
    """The verdict in sentences, the first of which says it whole."""
    if not np.isfinite(verdict.index.value):
        why = "no full-reference figure has a vote" if np.isfinite(verdict.trained.value) else (
            "the trained reward does not surely put the references above the start, so that there is no gap to close"
        )  # fmt: skip
        text = [f"Whether the reward is being hacked cannot be said: {why}."]
    elif found:
        text = [f"Reward hacking: {'; '.join(found)}."]
    else:
        text = ["No sign of reward hacking."]
    if np.isfinite(verdict.index.value):
        text.append(
            f"By the trained reward {_percent(verdict.trained)} of the way to the references is done, by full-reference figures "
            f"({', '.join(verdict.voters)}) {_percent(verdict.full_reference)}: hacking index {_signed(verdict.index)}."
        )
    if np.isfinite(verdict.excess.value):
        text.append(
            f"By independent reward models {_percent(verdict.judges)} of the way is done: excess {_signed(verdict.excess)}."
        )
    else:
        mute = "had a vote" if any(name.startswith(f"{JUDGE}_") for name in without_vote) else "judged (audit.rewards)"
        text.append(f"No independent reward model {mute}: what all stages are blind to stays unseen.")
    text.append(
        f"Above their own references by the trained reward: {_percent(verdict.ceiling)} of the images, "
        f"{100 * verdict.ceiling_at_start:.0f} % at the start."
    )
    if without_vote:
        text.append(f"Without a vote, since they prefer known defects: {', '.join(sorted(without_vote))}.")
    if photographs < HINT_OF_FEW:
        text.append(f"Intervals over {photographs} photograph{'s' * (photographs > 1)} say little: audit more of them.")
    return text


def _role(name: str, metric: MetricRole, trained: str, without_vote: Collection[str]) -> str:
    if name == trained:
        return "trained"
    if name in without_vote:
        return "no vote"
    return "index" if name in FULL_REFERENCE else "judge" if metric.group == JUDGE else "shown"


def _percent(one: Estimate) -> str:
    return f"{100 * one.value:.0f} %".replace("-", "−")


def _signed(one: Estimate) -> str:
    interval = f" [{one.low:+.2f}, {one.high:+.2f}]" if np.isfinite(one.low) else ""
    return f"{one.value:+.2f}{interval}"
