"""The rewards of a run by stage: opened, scaled once, renewed when a stage is refreshed."""

from collections.abc import Callable, Iterable, Sequence

import torch

from fgr.errors import UserError
from fgr.recipe.rlhf import Reward as RewardSettings
from fgr.reward.model import FinPercepRM
from fgr.rlhf.trained_reward import Reward, gradient_norm, plain_reward, stage_reward

Maps = Callable[[torch.Tensor], torch.Tensor]  # images (B, 3, H, W) → degradation maps (B, 1, H, W)


class RewardStages:
    """`rewards` of the stages `models`; one alone where the recipe names plain rewards.

    `strictness` is the share of pixels that each stage's map is pooled over, from RM_1 on; empty = the recipe's for all.
    UserError for plain rewards that the models do not have.
    """

    def __init__(
        self, models: list[FinPercepRM], settings: RewardSettings, strictness: Sequence[float], device: torch.device
    ) -> None:
        self.models, self.settings, self.strictness = models, settings, strictness
        if settings.plain:
            self.rewards = [plain_reward(settings, models, device)]
        else:
            self.rewards = [self._reward(model) for model in models]

    def replace(self, number: int, model: FinPercepRM) -> None:
        """A refreshed model takes the place of stage `number`; its reward is not scaled yet."""
        self.models[number] = model
        self.rewards[number] = self._reward(model)

    def scale(
        self, references: Sequence[torch.Tensor], starts: Sequence[torch.Tensor], anchor_norm: float, numbers: Iterable[int],
        first: int = 1,
    ) -> None:  # fmt: skip
        """Set z-units and weights of the rewards `numbers`, as the recipe's `reward.units` and `reward.ratio` say.

        `references` are images (B, 3, H, W), clean ones and composites; `starts` the untuned network's outputs, the `first` of
        which are the batch that weights are taken on. UserError for a reward that does not vary or has no gradient.
        """
        raw = self.settings.units == "raw"
        for number in numbers:
            scale(self.rewards[number], references, starts, anchor_norm, self.settings.ratio, not raw, first)
        if raw:
            for reward in self.rewards:
                reward.weight = self.rewards[-1].weight

    def maps(self, stage: int) -> Maps | None:
        """The degradation map of a stage, None for RM_0; plain rewards have no stages: the last one's."""
        model = self.models[stage] if len(self.rewards) == len(self.models) else self.models[-1]
        return (lambda images: model(images)[1]) if model.stage else None

    def _reward(self, model: FinPercepRM) -> Reward:
        q = self.strictness[model.stage - 1] if self.strictness and model.stage else None
        return stage_reward(model, self.settings, q)


def scale(
    reward: Reward, references: Sequence[torch.Tensor], starts: Sequence[torch.Tensor], anchor_norm: float, ratio: float,
    standardise: bool = True, first: int = 1,
) -> None:  # fmt: skip
    """Set a reward's z-units, unless its terms stay as they are, and its weight: its gradient on the `first` starts, as on one
    batch, is `ratio` times `anchor_norm`.

    UserError for a reward that does not vary or has no gradient.
    """
    if standardise:
        reward.calibrate([*references, *starts])
    try:
        gradient = torch.cat([reward.gradient(start)[2] for start in starts[:first]]) / first
        reward.weight = reward_weight(gradient_norm(gradient), anchor_norm, ratio)
    except ValueError as error:
        raise UserError(
            f"The reward {reward.name} cannot be optimized: {error}.",
            "Check the reward model with `fgr evaluate`; a map or score that is saturated everywhere has no gradient.",
        ) from None


def reward_weight(reward_gradient: float, anchor_gradient: float, ratio: float) -> float:
    """The weight at which the reward's gradient norm is `ratio` times the anchor's. ValueError for a norm of 0 or infinity."""
    for name, value in (("reward", reward_gradient), ("anchor", anchor_gradient)):
        if not 0 < value < float("inf"):
            raise ValueError(f"the {name}'s gradient at the output has the norm {value:.3g}")
    return ratio * anchor_gradient / reward_gradient
