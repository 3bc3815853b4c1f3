"""Rewards by stage: which pixels each pools, how they are scaled, and what takes a stage's place."""

import pytest
import torch

from fgr.recipe.rlhf import Reward as RewardSettings
from fgr.reward.model import FinPercepRM
from fgr.rlhf.reward_stages import RewardStages, reward_weight

IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def model(stage: int, seed: int = 0) -> FinPercepRM:
    torch.manual_seed(seed)
    made = FinPercepRM(stage=stage, stages=2).eval().requires_grad_(False)
    torch.nn.init.normal_(made.head[-1].weight)
    for level in made.decoder.levels if made.decoder else ():
        torch.nn.init.normal_(level.out.weight, std=0.1)
    return made


def test_strictness_is_a_share_of_pixels_for_each_stage_with_a_map():
    stages = RewardStages([model(0), model(1), model(2)], RewardSettings(q=1.0), (0.5, 0.01), torch.device("cpu"))
    for number, q in ((1, 0.5), (2, 0.01)):
        alone = RewardStages([stages.models[number]], RewardSettings(q=q), (), torch.device("cpu"))
        assert torch.equal(stages.rewards[number].value(IMAGE), alone.rewards[0].value(IMAGE))


def test_a_refreshed_model_takes_the_place_of_its_stage_in_reward_and_map():
    stages = RewardStages([model(0), model(1)], RewardSettings(), (), torch.device("cpu"))
    shared = stages.rewards  # what algorithms and audits hold
    before, new = shared[1].value(IMAGE), model(1, seed=5)
    stages.replace(1, new)
    assert not torch.equal(shared[1].value(IMAGE), before)
    assert torch.equal(stages.maps(1)(IMAGE), new(IMAGE)[1])
    assert stages.maps(0) is None


def test_plain_rewards_are_one_and_take_the_last_stages_map():
    stages = RewardStages([model(0), model(1)], RewardSettings(plain=("rm-stage:0",)), (), torch.device("cpu"))
    assert len(stages.rewards) == 1
    assert torch.equal(stages.maps(0)(IMAGE), stages.models[1](IMAGE)[1])


def test_the_weight_makes_the_rewards_gradient_the_asked_share_of_the_anchors():
    assert reward_weight(reward_gradient=4.0, anchor_gradient=2.0, ratio=0.5) == 0.25
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="reward's gradient"):
            reward_weight(wrong, 1.0, 0.5)
    with pytest.raises(ValueError, match="anchor's gradient"):
        reward_weight(1.0, 0.0, 0.5)
