"""What a tuning run needs to go on, as it is and as a checkpoint keeps it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from fgr.rlhf.auditor import Baseline, baseline_of
from fgr.rlhf.curriculum import AuditPoint, CurriculumState
from fgr.rlhf.policy import Weights


@dataclass
class State:
    """All that a run needs to go on: part of the checkpoint, with the learned weights and the optimizer."""

    curriculum: CurriculumState
    step: int = 0
    ema: Weights = field(default_factory=dict)
    baseline: Baseline | None = None
    points: list[AuditPoint] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # step, stage, held_out, score, weights
    alarms: list[int] = field(default_factory=list)
    bad: int = 0  # steps in a row without a usable gradient
    skipped: int = 0
    gradient: float = 0.0  # running mean of its norm
    ended: str = ""  # why the run ended early

    def plain(self) -> dict[str, Any]:
        """Values that a checkpoint can hold."""
        return vars(self) | {
            "curriculum": asdict(self.curriculum), "points": [asdict(point) for point in self.points],
            "baseline": self.baseline.plain() if self.baseline else None,
        }  # fmt: skip

    @classmethod
    def of(cls, plain: dict[str, Any], placed: Callable[[Weights], Weights]) -> "State":
        """The state that `plain` gave; `placed` brings weights to their device."""
        return cls(
            **plain | {
                "curriculum": CurriculumState(**plain["curriculum"]),
                "points": [AuditPoint(**point) for point in plain["points"]],
                "baseline": baseline_of(plain["baseline"]), "ema": placed(plain["ema"]),
            }
        )  # fmt: skip
