"""The audit at work: a baseline with planted defects at first, then a finding at each audit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from fgr.images.arrays import as_images
from fgr.progress import Progress
from fgr.recipe.rlhf import Audit
from fgr.rlhf import audit, changes, yardstick
from fgr.rlhf.audit import NO_GAP, Evidence, Verdict
from fgr.rlhf.changes import Changes, MetricRole
from fgr.rlhf.held_out import HeldOutEvaluation

AT_ONCE = 48  # planted images between two signs of progress


@dataclass
class Baseline:
    """What audits compare with: figures of the start and of the references, an image each, and what the yardstick found."""

    start: dict[str, np.ndarray] = field(default_factory=dict)
    reference: dict[str, np.ndarray] = field(default_factory=dict)  # empty without references
    planted: list[dict[str, Any]] = field(default_factory=list)
    without_vote: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For a checkpoint."""
        tensors = {
            name: {key: torch.from_numpy(one) for key, one in getattr(self, name).items()} for name in ("start", "reference")
        }
        return vars(self) | tensors


def baseline_of(plain: Mapping[str, Any]) -> Baseline:
    """The baseline that a checkpoint holds."""
    arrays = {name: {key: one.numpy() for key, one in plain[name].items()} for name in ("start", "reference")}
    return Baseline(**dict(plain) | arrays)


@dataclass(frozen=True)
class Finding:
    """What an audit found: changes in sd, the verdict (None without references), alarms, and the number that the best network is
    chosen by."""

    changes: Changes
    verdict: Verdict | None
    alarms: list[str]
    score: float


class Auditor:
    """Judges figures of `evaluation` by the limits of the recipe's `audit`."""

    def __init__(self, evaluation: HeldOutEvaluation, limits: Audit, device: torch.device) -> None:
        self.evaluation, self.limits, self.device = evaluation, limits, device

    @property
    def photographs(self) -> Sequence[str]:
        """The photograph of each audited crop."""
        return self.evaluation.crops.photographs

    def roles(self, baseline: Baseline) -> dict[str, MetricRole]:
        """What each figure is to the audit: those without a vote are only shown."""
        return {
            name: replace(role, counts=False) if name in baseline.without_vote else role
            for name, role in self.evaluation.metrics.roles.items()
        }

    def baseline(self, start: Mapping[str, np.ndarray], stages: Iterable[int], before: Baseline | None = None) -> Baseline:
        """The baseline of a run whose untuned network has the figures `start`; with the votes of `before`, or those that planted
        defects leave. Every process gets the same."""
        stages = list(stages)
        found = Baseline(dict(start), self.evaluation.references(self.device, stages))
        if before:
            found.planted, found.without_vote = before.planted, before.without_vote
        elif found.reference and self.limits.planted:
            found.planted = self._planted(found, stages[-1])
            found.without_vote = [name for name in yardstick.without_vote(found.planted) if not name.startswith("reward_")]
        shared: Baseline = broadcast_object_list([found])[0]
        return shared

    def assess(self, baseline: Baseline, values: Mapping[str, np.ndarray], stage: int) -> Finding:
        """What figures of the policy say of the reward of `stage`."""
        name, limits, roles = f"reward_{stage}", self.limits, self.roles(baseline)
        moved = changes.measured(baseline.start, values, roles, (baseline.start[name], values[name]), self.photographs)
        fell = changes.fell_while_the_reward_rose(moved, limits.rise, limits.fall)
        if not baseline.reference:
            return Finding(moved, None, [fell] if fell else [], moved.least)
        verdict = audit.assess(self.evidence(baseline, values), roles, name, baseline.without_vote)
        found = audit.alarms(verdict, limits.max_index, limits.harm, limits.max_ceiling, limits.max_excess)
        return Finding(moved, verdict, [*found, *([fell] if fell else [])], verdict.full_reference.value)

    def evidence(self, baseline: Baseline, values: Mapping[str, np.ndarray]) -> Evidence:
        """Figures of the start, the policy and the references."""
        return Evidence(baseline.start, values, baseline.reference, self.photographs)

    def summary(self, baseline: Baseline, values: Mapping[str, np.ndarray], stage: int) -> dict[str, Any]:
        """The audit's part of summary.json."""
        found, name = self.assess(baseline, values, stage), f"reward_{stage}"
        roles = {name: MetricRole("trained reward", 1, False)} | self.roles(baseline)
        rows = changes.compared(baseline.start, values, roles, self.photographs)
        part: dict[str, Any] = {
            "images": len(self.photographs), "photographs": len(set(self.photographs)), "reward": found.changes.reward,
            "held_out": found.changes.held_out.value, "metrics": rows, "planted": baseline.planted,
            "without_vote": baseline.without_vote, "final_alarms": found.alarms,
        }  # fmt: skip
        if found.verdict is None:
            return part | {"verdict": _without_references(found.alarms)}
        words = audit.in_words(found.verdict, found.alarms, part["photographs"], baseline.without_vote)
        rows = audit.closures(self.evidence(baseline, values), self.roles(baseline), name, baseline.without_vote)
        return part | found.verdict.figures() | {"closures": rows, "verdict": words}

    def _planted(self, baseline: Baseline, stage: int) -> list[dict[str, Any]]:
        """What every figure with a gap, and the trained reward, says of known defects."""
        evaluation, numbers = self.evaluation, self.evaluation.crops.first_of_each(self.limits.planted)
        pairs = [evaluation.pairs[number] for number in numbers]
        starts = as_images(evaluation.start_outputs(pairs, self.device))
        planted = yardstick.plant([pair[1] for pair in pairs], starts)
        parts: list[dict[str, np.ndarray]] = []
        with Progress("planted defects", len(planted), "images") as progress:
            for first in range(0, len(planted), AT_ONCE):
                some = planted[first : first + AT_ONCE]
                images, of = [one.image for one in some], [numbers[one.of] for one in some]
                parts.append(evaluation.changed(images, of, self.device, [stage]))
                progress.advance(len(some))
        values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        plain = {
            on: {name: one[numbers] for name, one in figures.items()}
            for on, figures in (("reference", baseline.reference), ("start", baseline.start))
        }
        roles = {f"reward_{stage}": MetricRole("trained reward", 1, False)}
        roles |= {name: role for name, role in evaluation.metrics.roles.items() if name not in NO_GAP}
        return yardstick.judged(planted, values, plain, roles, [self.photographs[number] for number in numbers])


def _without_references(alarms: Sequence[str]) -> list[str]:
    said = f"Reward hacking: {'; '.join(alarms)}." if alarms else "No sign of reward hacking, as far as can be seen."
    return [
        said,
        "There are no references: how much of the way to them is done, whether outputs score above their own, and which figures "
        "known defects mislead cannot be said. What was judged: whether the reward rose while the other figures fell. "
        "Audit on a dataset made by fgr generate for the rest.",
    ]
