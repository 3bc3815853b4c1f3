"""The RL algorithms by name, and opening the one that a recipe names.

A new one is a model in `fgr.recipe.algorithms`, a file here and a line in ALGORITHMS.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fgr.recipe.rlhf import RlhfRecipe
from fgr.rlhf.algorithms.direct import Direct
from fgr.rlhf.algorithms.dpo import Dpo
from fgr.rlhf.algorithms.grpo import Grpo
from fgr.rlhf.algorithms.interface import Algorithm
from fgr.rlhf.algorithms.pathwise import Pathwise
from fgr.rlhf.anchor import Distance
from fgr.rlhf.reward_stages import RewardStages

Autocast = Callable[[], AbstractContextManager[Any]]
Perceptual = Mapping[str, Distance]  # by the metric's name
Opener = Callable[[Any, Any, RlhfRecipe, RewardStages, Autocast, Perceptual], Algorithm]


def _pathwise(
    policy: Any, settings: Any, recipe: RlhfRecipe, stages: RewardStages, autocast: Autocast, perceptual: Perceptual
) -> Algorithm:
    return Pathwise(policy, stages.rewards, settings, recipe.seed, autocast)


ALGORITHMS: dict[str, Opener] = {
    "direct": lambda policy, settings, recipe, stages, autocast, perceptual: Direct(
        policy, stages.rewards, recipe.anchor, perceptual, autocast
    ),
    "refl": _pathwise,
    "draft": _pathwise,
    "draft-lv": _pathwise,
    "grpo": lambda policy, settings, recipe, stages, autocast, perceptual: Grpo(
        policy, stages.rewards, settings, recipe.seed, stages.maps
    ),
    "dpo": lambda policy, settings, recipe, stages, autocast, perceptual: Dpo(policy, stages.rewards, settings, recipe.seed),
}


def open_algorithm(
    policy: Any, recipe: RlhfRecipe, stages: RewardStages, autocast: Autocast, perceptual: Perceptual
) -> Algorithm:
    """The algorithm that the recipe names, given its own settings; `perceptual` are the distances that the anchor weighs."""
    return ALGORITHMS[recipe.algorithm.name](policy, recipe.algorithm, recipe, stages, autocast, perceptual)
