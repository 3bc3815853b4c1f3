"""CCL: which stage of the reward model is climbed when. Pure: numbers in, a decision with its evidence out.

`paper` switches after a fixed number of steps, `blend` does so with a cross-fade, `adaptive` (ours) moves on when the held-out
metrics no longer gain, at once when the stage's reward rises while they fall, and goes back when they have fallen far.
`none` is direct training against one stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import median, pstdev
from typing import Any, Literal

Action = Literal["hold", "advance", "slow", "rollback", "stop"]
SLOWEST = 0.125  # of the pace: below that, slowing down again is of no use


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule; numbers as in the recipe's `curriculum`, `lengths` in steps a stage."""

    schedule: str
    first: int
    last: int
    lengths: tuple[int, ...] = ()
    blend_steps: int = 20
    window: int = 6
    plateau: float = 0.02
    least_steps: int = 40
    jitter: float = 10.0
    drawdown: float = 1.0
    rollbacks: int = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands: the stage, since which step, how fast, and how often it was rolled back."""

    stage: int
    since: int = 0
    pace: float = 1.0
    rollbacks: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """An audit: the stage's reward on held-out inputs and the held-out metrics' mean, both in sd over images since the start."""

    step: int
    stage: int
    reward: float
    held_out: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, why, and the numbers that say so."""

    action: Action
    reason: str
    evidence: dict[str, float]


def begin(plan: Plan) -> Standing:
    """The standing at step 0."""
    return Standing(plan.first)


def equal_lengths(stages: int, steps: int) -> tuple[int, ...]:
    """`steps` shared out evenly over `stages`, the longer ones last. ValueError for fewer steps than stages."""
    if steps < stages:
        raise ValueError(f"{steps} steps do not suffice for {stages} stages")
    short, more = divmod(steps, stages)
    return tuple(short + (number >= stages - more) for number in range(stages))


def due(plan: Plan, standing: Standing, step: int) -> bool:
    """Whether the fixed schedules switch before step number `step` (from 0)."""
    if plan.schedule not in ("paper", "blend") or standing.stage >= plan.last:
        return False
    return step >= sum(plan.lengths[: standing.stage - plan.first + 1])


def share(plan: Plan, standing: Standing, step: int) -> float:
    """How far the stage has faded in, 0 … 1: a smoothstep over `blend_steps` after a switch, at once for `paper`."""
    if plan.schedule not in ("blend", "adaptive") or standing.stage == plan.first:
        return 1.0
    done = min(1.0, (step - standing.since + 1) / plan.blend_steps)
    return done * done * (3 - 2 * done)


def rate(plan: Plan, standing: Standing, step: int) -> float:
    """The learning rate's share: the pace, and after a cross-faded switch a rise over a quarter of the fade."""
    if plan.schedule not in ("blend", "adaptive") or standing.stage == plan.first:
        return standing.pace
    return standing.pace * min(1.0, (step - standing.since + 1) / max(1, plan.blend_steps // 4))


def judge(plan: Plan, standing: Standing, points: Sequence[Point]) -> Decision:
    """What the schedule `adaptive` does after an audit; `points` are all audits of the run, the newest last."""
    if plan.schedule != "adaptive" or not points:
        return Decision("hold", "", {})
    newest = points[-1]
    fall = max(point.held_out for point in points) - newest.held_out
    if fall > plan.drawdown:
        action: Action = "rollback" if standing.rollbacks < plan.rollbacks else "stop"
        return Decision(action, "the held-out metrics have fallen far below their best", {"fall": fall, "allowed": plan.drawdown})
    recent = [point for point in points if point.stage == standing.stage and point.step >= standing.since][-plan.window :]
    if len(recent) < plan.window or newest.step - standing.since < plan.least_steps:
        return Decision("hold", "", {})
    reward, held_out = trend([point.reward for point in recent]), trend([point.held_out for point in recent])
    evidence = {"reward_trend": reward, "held_out_trend": held_out}
    evidence["jitter"] = _jitter([point.reward for point in recent], reward)
    if standing.stage < plan.last and reward > 0 and held_out < -plan.plateau:
        return Decision("advance", "the stage's reward rises while the held-out metrics fall", evidence)
    if standing.stage < plan.last and held_out < plan.plateau:
        return Decision("advance", "the held-out metrics no longer gain", evidence)
    if evidence["jitter"] > plan.jitter and standing.pace > SLOWEST:
        return Decision("slow", "the reward swings more than it rises", evidence)
    return Decision("hold", "", evidence)


def advance(standing: Standing, step: int) -> Standing:
    """One stage on, at full pace."""
    return replace(standing, stage=standing.stage + 1, since=step, pace=1.0)


def slow(standing: Standing, step: int) -> Standing:
    """Half the pace; the trend is taken anew from here."""
    return replace(standing, since=step, pace=standing.pace / 2)


def retreat(standing: Standing, step: int, stage: int) -> Standing:
    """After a rollback: the stage that was climbed then, at half the pace."""
    return replace(standing, stage=stage, since=step, pace=standing.pace / 2, rollbacks=standing.rollbacks + 1)


def trend(values: Sequence[float]) -> float:
    """Theil–Sen slope: the median of the slopes between all pairs, a step apart each; 0 for fewer than two values."""
    slopes = [(values[j] - values[i]) / (j - i) for i, j in combinations(range(len(values)), 2)]
    return median(slopes) if slopes else 0.0


def plain(standing: Standing) -> dict[str, Any]:
    """The standing as JSON values."""
    return {name: getattr(standing, name) for name in ("stage", "since", "pace", "rollbacks")}


def _jitter(values: Sequence[float], slope: float) -> float:
    changes = [after - before for before, after in pairwise(values)]
    return pstdev(changes) / max(abs(slope), 1e-6)
