"""The RL algorithms by name, and opening the one that a recipe names.

A new one is a model in `fgr.recipe.algorithms`, a file here and a line in ALGORITHMS.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from fgr.recipe.rlhf import RlhfRecipe
from fgr.rlhf.algorithms.direct import Direct
from fgr.rlhf.algorithms.dpo import Dpo
from fgr.rlhf.algorithms.grpo import Grpo
from fgr.rlhf.algorithms.interface import Algorithm, Gather
from fgr.rlhf.algorithms.pathwise import Pathwise
from fgr.rlhf.anchor import Distance
from fgr.rlhf.reward_stages import RewardStages

Perceptual = Mapping[str, Distance]  # by the metric's name


@dataclass(frozen=True)
class Surroundings:
    """What an algorithm has from the run: mixed precision, the distances that the anchor weighs, and what joins processes."""

    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    perceptual: Perceptual = field(default_factory=dict)
    gather: Gather = lambda values: values


Opener = Callable[[Any, Any, RlhfRecipe, RewardStages, Surroundings], Algorithm]


def _pathwise(policy: Any, settings: Any, recipe: RlhfRecipe, stages: RewardStages, around: Surroundings) -> Algorithm:
    return Pathwise(policy, stages.rewards, settings, recipe.seed, around.autocast)


ALGORITHMS: dict[str, Opener] = {
    "direct": lambda policy, settings, recipe, stages, around: Direct(
        policy, stages.rewards, recipe.anchor, around.perceptual, around.autocast, settings
    ),
    "refl": _pathwise,
    "draft": _pathwise,
    "draft-lv": _pathwise,
    "grpo": lambda policy, settings, recipe, stages, around: Grpo(
        policy, stages.rewards, settings, recipe.seed, stages.maps, around.autocast, around.gather
    ),
    "dpo": lambda policy, settings, recipe, stages, around: Dpo(
        policy, stages.rewards, settings, recipe.seed, around.autocast, around.gather
    ),
}


def open_algorithm(policy: Any, recipe: RlhfRecipe, stages: RewardStages, around: Surroundings) -> Algorithm:
    """The algorithm that the recipe names, given its own settings."""
    return ALGORITHMS[recipe.algorithm.name](policy, recipe.algorithm, recipe, stages, around)
