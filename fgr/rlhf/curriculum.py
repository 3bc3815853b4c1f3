"""The curriculum CCL: which stage of the reward model gives the reward when. Pure.

Pure: numbers in, a decision with its evidence out.
`paper` switches after a fixed number of steps, `blend` does so with a cross-fade, `adaptive` (ours) moves on when the held-out
metrics no longer gain, at once when the stage's reward rises while they fall, and goes back when they have fallen far. `none` is
direct training against one stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import pstdev
from typing import Literal

Action = Literal["stay", "advance", "slow", "rollback", "stop"]
SLOWEST = 0.125  # factor of the learning rate: below that, slowing down again is of no use


@dataclass(frozen=True, slots=True)
class StageSchedule:
    """The stages of a run, `first` to `last`, `lengths` in steps a stage; `kind` is the recipe's `curriculum.schedule`."""

    kind: str
    first: int
    last: int
    lengths: tuple[int, ...] = ()
    blend_steps: int = 1  # in which one fades into the next


@dataclass(frozen=True, slots=True)
class CurriculumState:
    """The stage and since which step, the factor of the learning rate, and how often the run was rolled back."""

    stage: int
    since: int = 0
    lr_factor: float = 1.0
    rollbacks: int = 0


@dataclass(frozen=True, slots=True)
class AuditPoint:
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


def equal_lengths(stages: int, steps: int) -> tuple[int, ...]:
    """`steps` shared out evenly over `stages`, the longer ones last. ValueError for fewer steps than stages."""
    if steps < stages:
        raise ValueError(f"{steps} steps are not enough for {stages} stages")
    short, more = divmod(steps, stages)
    return tuple(short + (number >= stages - more) for number in range(stages))


def is_due(schedule: StageSchedule, state: CurriculumState, step: int) -> bool:
    """Whether the fixed schedules switch before step number `step` (from 0)."""
    if schedule.kind not in ("paper", "blend") or state.stage >= schedule.last:
        return False
    return step >= sum(schedule.lengths[: state.stage - schedule.first + 1])


def blend_share(schedule: StageSchedule, state: CurriculumState, step: int) -> float:
    """How far the stage has faded in, 0 … 1: a smoothstep over `blend_steps` after a switch, at once for `paper`."""
    if schedule.kind not in ("blend", "adaptive") or state.stage == schedule.first:
        return 1.0
    done = min(1.0, (step - state.since + 1) / schedule.blend_steps)
    return done * done * (3 - 2 * done)


def lr_factor(schedule: StageSchedule, state: CurriculumState, step: int) -> float:
    """The learning rate's factor: the state's, and after a cross-faded switch a rise over a quarter of the fade."""
    if schedule.kind not in ("blend", "adaptive") or state.stage == schedule.first:
        return state.lr_factor
    return state.lr_factor * min(1.0, (step - state.since + 1) / max(1, schedule.blend_steps // 4))


def next_action(
    state: CurriculumState, points: Sequence[AuditPoint], last_stage: int, *, window: int, plateau: float, least_steps: int,
    jitter: float, drawdown: float, rollbacks: int,
) -> Decision:  # fmt: skip
    """What the schedule `adaptive` does after an audit; `points` are all audits of the run, the newest last.

    The keywords are those of the recipe's `curriculum.adaptive`.
    """
    newest = points[-1]
    fall = max(point.held_out for point in points) - newest.held_out
    if fall > drawdown:
        action: Action = "rollback" if state.rollbacks < rollbacks else "stop"
        return Decision(action, "the held-out metrics have fallen far below their best", {"fall": fall, "allowed": drawdown})
    recent = [point for point in points if point.stage == state.stage and point.step >= state.since][-window:]
    if len(recent) < window or newest.step - state.since < least_steps:
        return Decision("stay", "", {})
    reward, held_out = trend([point.reward for point in recent]), trend([point.held_out for point in recent])
    swing = _jitter([point.reward for point in recent], reward)
    evidence = {"reward_trend": reward, "held_out_trend": held_out, "jitter": swing}
    if state.stage < last_stage and reward > 0 and held_out < -plateau:
        return Decision("advance", "the stage's reward rises while the held-out metrics fall", evidence)
    if state.stage < last_stage and held_out < plateau:
        return Decision("advance", "the held-out metrics no longer gain", evidence)
    if swing > jitter and state.lr_factor > SLOWEST:
        return Decision("slow", "the reward swings more than it rises", evidence)
    return Decision("stay", "", evidence)


def advance(state: CurriculumState, step: int) -> CurriculumState:
    """One stage on, at the full learning rate."""
    return replace(state, stage=state.stage + 1, since=step, lr_factor=1.0)


def slow_down(state: CurriculumState, step: int) -> CurriculumState:
    """Half the learning rate; the trend is taken anew from here."""
    return replace(state, since=step, lr_factor=state.lr_factor / 2)


def roll_back(state: CurriculumState, step: int, stage: int) -> CurriculumState:
    """After a rollback: the stage of the checkpoint, at half the learning rate."""
    return replace(state, stage=stage, since=step, lr_factor=state.lr_factor / 2, rollbacks=state.rollbacks + 1)


def trend(values: Sequence[float]) -> float:
    """Theil–Sen slope: the median of the slopes between all pairs, a step apart each; 0 for fewer than two values."""
    from scipy.stats import theilslopes

    return float(theilslopes(values).slope) if len(values) > 1 else 0.0


def _jitter(values: Sequence[float], slope: float) -> float:
    changes = [after - before for before, after in pairwise(values)]
    return pstdev(changes) / max(abs(slope), 1e-6)
