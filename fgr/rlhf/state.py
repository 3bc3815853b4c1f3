"""What a tuning run is told, and what it must remember to go on."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fgr.rlhf.curriculum import Point, Standing
from fgr.rlhf.policy import Weights


@dataclass(frozen=True)
class Knobs:
    """The optimiser, the audit and their bookkeeping; see the recipe's `training` and `audit`."""

    steps: int
    lr: float
    weight_decay: float
    warmup: int
    clip: float
    ema: float
    accumulate: int
    checkpoint_every: int
    explode: float
    bad_steps: int
    precision: str
    every: int
    rise: float
    fall: float
    outrun: float
    on_hacking: str
    sheet: int


@dataclass
class State:
    """All that a run needs to go on: part of the checkpoint, with the learned weights and the optimiser."""

    standing: Standing
    step: int = 0
    ema: Weights = field(default_factory=dict)
    start: dict[str, np.ndarray] = field(default_factory=dict)  # figures at step 0
    points: list[Point] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # step, stage, held_out, weights
    alarms: list[int] = field(default_factory=list)
    bad: int = 0
    skipped: int = 0
    gradient: float = 0.0  # running mean of its norm
    ended: str = ""
