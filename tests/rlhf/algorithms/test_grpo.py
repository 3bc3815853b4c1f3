"""GRPO: ratios, groups, advantages a place."""

import pytest
import torch
from toy_diffusion import LOW as TOY_LOW
from toy_diffusion import grey_reward, moved, toy

from fgr.recipe.sampling import Sampling
from fgr.rlhf import grpo
from fgr.rlhf.diffusion_policy import open_diffusion_policy
from fgr.rlhf.inputs import Batch

MODELS = ("ldm-sr",)
FEW = Sampling(steps=3)
LOW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_recomputed_log_probabilities_are_the_sampled_ones_and_ratios_begin_at_one():
    policy = moved(toy())
    algorithm = grpo.Grpo(policy, [grey_reward()], grpo.Knobs(group=4, beta=1.0))
    rollout, _ = algorithm.rollout(Batch(TOY_LOW, None, None, 3), 0, 1.0)
    assert sorted(rollout.before) == [0, 1, 2, 3, 4]
    for index, old in rollout.log_prob.items():
        step = policy.step(rollout.before[index], index, rollout.begun, 1.0)
        assert torch.allclose(grpo.sampling.log_prob(rollout.after[index], step), old, atol=1e-5)
        _, figures = algorithm.loss(rollout, index)
        assert figures["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert figures["kl"] > 0


def test_members_of_a_group_share_their_first_noise_only_if_asked_to():
    for shared in (True, False):
        algorithm = grpo.Grpo(toy(), [grey_reward()], grpo.Knobs(group=2, shared_noise=shared))
        rollout, _ = algorithm.rollout(Batch(TOY_LOW, None), 0, 1.0)
        assert torch.equal(rollout.begun.latents[0], rollout.begun.latents[1]) is shared
        assert not torch.equal(rollout.images[0], rollout.images[1])


def test_dense_advantages_have_a_value_a_place_and_fall_where_the_map_is_high(folder):
    def maps(images):
        map_ = torch.zeros_like(images[:, :1])
        map_[::2, :, :32] = 1  # of every other sample, the upper half is bad
        return map_

    policy = open_diffusion_policy("ldm-sr", FEW)
    policy.learn_lora(2, 2)
    algorithm = grpo.Grpo(policy, [grey_reward()], grpo.Knobs(group=2, dense=True), lambda stage: maps)
    rollout, _ = algorithm.rollout(Batch(LOW, None), 0, 1.0)
    assert rollout.advantage.shape == (4, 16, 16)
    gap = rollout.advantage[0] - rollout.advantage[1]
    assert gap[0, 0] < gap[15, 0]
    algorithm.loss(rollout, 0)[0].backward()
