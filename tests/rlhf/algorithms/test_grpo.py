"""GRPO: its objective by hand; ratios, groups, advantages a place."""

import math

import pytest
import torch
from toy_diffusion import LOW as TOY_LOW
from toy_diffusion import diffusion_policy, grey_reward, moved, toy

from fgr.recipe.algorithms import GrpoSettings
from fgr.rlhf.algorithms import grpo
from fgr.rlhf.inputs import Batch

MODELS = ("ldm-sr",)
REWARDS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 7.0]])
LOW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_recomputed_log_probabilities_are_the_sampled_ones_and_ratios_begin_at_one():
    policy = moved(toy())
    algorithm = grpo.Grpo(policy, [grey_reward()], GrpoSettings(name="grpo", group=4, beta=1.0))
    rollout, _ = algorithm.rollout(Batch(TOY_LOW, None, None, 3), 0, 1.0)
    assert sorted(rollout.before) == [0, 1, 2, 3, 4]
    for index, old in rollout.log_prob.items():
        step = policy.step(rollout.before[index], index, rollout.start, 1.0)
        assert torch.allclose(step.log_prob(rollout.after[index]), old, atol=1e-5)
        _, figures = algorithm.loss(rollout, index)
        assert figures["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert figures["kl"] > 0


def test_members_of_a_group_share_their_first_noise_only_if_asked_to():
    for shared in (True, False):
        algorithm = grpo.Grpo(toy(), [grey_reward()], GrpoSettings(name="grpo", group=2, shared_noise=shared))
        rollout, _ = algorithm.rollout(Batch(TOY_LOW, None), 0, 1.0)
        assert torch.equal(rollout.start.latents[0], rollout.start.latents[1]) is shared
        assert not torch.equal(rollout.images[0], rollout.images[1])


def test_dense_advantages_have_a_value_a_place_and_fall_where_the_map_is_high(folder):
    def maps(images):
        map_ = torch.zeros_like(images[:, :1])
        map_[::2, :, :32] = 1  # of every other sample, the upper half is bad
        return map_

    algorithm = grpo.Grpo(
        diffusion_policy("ldm-sr", {"steps": 3}),
        [grey_reward()],
        GrpoSettings(name="grpo", group=2, dense=True),
        maps=lambda stage: maps,
    )
    rollout, _ = algorithm.rollout(Batch(LOW, None), 0, 1.0)
    assert rollout.advantage.shape == (4, 16, 16)
    gap = rollout.advantage[0] - rollout.advantage[1]
    assert gap[0, 0] < gap[15, 0]
    algorithm.loss(rollout, 0)[0].backward()


def test_advantages_of_a_two_by_three_example():
    assert grpo.advantages(REWARDS, "none", 5.0).tolist() == [[-1, 0, 1], [-1, -1, 2]]
    sd = math.sqrt(((REWARDS - 3.5) ** 2).mean())
    assert torch.allclose(grpo.advantages(REWARDS, "global", 5.0), torch.tensor([[-1, 0, 1], [-1, -1, 2.0]]) / sd)
    own = torch.tensor([[math.sqrt(2 / 3)], [math.sqrt(2)]])
    assert torch.allclose(grpo.advantages(REWARDS, "group", 5.0), torch.tensor([[-1, 0, 1], [-1, -1, 2.0]]) / own)
    assert grpo.advantages(REWARDS, "none", clip=0.5).tolist() == [[-0.5, 0, 0.5], [-0.5, -0.5, 0.5]]


def test_the_global_deviation_is_that_of_every_process():
    elsewhere = torch.tensor([-9.0, 9.0])
    joined = torch.cat([REWARDS.flatten(), elsewhere])
    found = grpo.advantages(REWARDS, "global", 5.0, joined)
    assert torch.allclose(found, (REWARDS - REWARDS.mean(1, keepdim=True)) / joined.std(correction=0))
    settings = GrpoSettings(name="grpo", group=4)
    alone = grpo.Grpo(toy(), [grey_reward()], settings).rollout(Batch(TOY_LOW, None), 0, 1.0)[0]
    both = grpo.Grpo(toy(), [grey_reward()], settings, gather=lambda values: torch.cat([values, 10 * values]))
    shared = both.rollout(Batch(TOY_LOW, None), 0, 1.0)[0]
    assert float(shared.advantage.abs().max()) < 0.5 * float(alone.advantage.abs().max())


def test_members_that_are_alike_have_no_advantage_and_a_group_of_one_is_refused():
    assert grpo.advantages(torch.full((2, 3), 5.0), "group", 5.0).abs().max() == 0
    with pytest.raises(ValueError, match="at least two members"):
        grpo.advantages(torch.ones(3, 1), "global", 5.0)


def test_the_clipped_loss_by_hand():
    old = torch.zeros(3)
    advantage = torch.tensor([1.0, 1.0, -1.0])
    now = torch.tensor([0.0, math.log(1.5), math.log(0.5)])
    # ratios 1, 1.5 (clipped to 1.2), 0.5 (clipped to 0.8, the smaller gain counts)
    assert float(grpo.clipped(now, old, advantage, 0.2)) == pytest.approx(-(1 + 1.2 - 0.8) / 3)


def test_a_ratio_of_one_gives_the_plain_policy_gradient():
    now = torch.tensor([0.3, -0.2], requires_grad=True)
    grpo.clipped(now, now.detach(), torch.tensor([2.0, -1.0]), 1e-4).backward()
    assert now.grad.tolist() == [-1.0, 0.5]


def test_a_bad_place_has_a_lower_reward_than_a_good_one_whatever_the_sign_of_the_whole():
    maps = torch.zeros(2, 1, 4, 4)
    maps[:, :, :2] = 1
    dense = grpo.dense_rewards(torch.tensor([-3.0, 2.0]), maps, (2, 2))
    assert dense.shape == (2, 2, 2)
    assert dense[0, 0, 0] == dense[0, 1, 0] - 2
    assert dense[1, 0, 0] == dense[1, 1, 0] - 2
    assert dense.mean((1, 2)).tolist() == pytest.approx([-3.0, 2.0], abs=1e-6)


def test_the_window_slides_and_never_holds_the_last_step():
    assert list(grpo.window(0, 6, 0, 25)) == [0, 1, 2, 3, 4]
    assert [list(grpo.window(step, 6, 2, 10)) for step in (0, 9, 10, 35, 40)] == [
        [0, 1],
        [0, 1],
        [1, 2],
        [3, 4],
        [0, 1],
    ]
    assert list(grpo.window(3, 4, 9, 1)) == [0, 1, 2]
