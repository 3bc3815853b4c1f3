"""GRPO's and DPO's objectives, by hand."""

import math

import pytest
import torch

from fgr.rlhf import policy_gradient, preference

REWARDS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 7.0]])


def test_advantages_of_a_two_by_three_example():
    assert policy_gradient.advantages(REWARDS, "none").tolist() == [[-1, 0, 1], [-1, -1, 2]]
    sd = math.sqrt(((REWARDS - 3.5) ** 2).mean())
    assert torch.allclose(policy_gradient.advantages(REWARDS, "global"), torch.tensor([[-1, 0, 1], [-1, -1, 2.0]]) / sd)
    own = torch.tensor([[math.sqrt(2 / 3)], [math.sqrt(2)]])
    assert torch.allclose(policy_gradient.advantages(REWARDS, "group"), torch.tensor([[-1, 0, 1], [-1, -1, 2.0]]) / own)
    assert policy_gradient.advantages(REWARDS, "none", clip=0.5).tolist() == [[-0.5, 0, 0.5], [-0.5, -0.5, 0.5]]


def test_members_that_are_alike_have_no_advantage_and_a_group_of_one_is_refused():
    assert policy_gradient.advantages(torch.full((2, 3), 5.0), "group").abs().max() == 0
    with pytest.raises(ValueError, match="at least two members"):
        policy_gradient.advantages(torch.ones(3, 1))


def test_the_clipped_loss_by_hand():
    old = torch.zeros(3)
    advantage = torch.tensor([1.0, 1.0, -1.0])
    now = torch.tensor([0.0, math.log(1.5), math.log(0.5)])
    # ratios 1, 1.5 (clipped to 1.2), 0.5 (clipped to 0.8, the smaller gain counts)
    assert float(policy_gradient.clipped(now, old, advantage, 0.2)) == pytest.approx(-(1 + 1.2 - 0.8) / 3)


def test_a_ratio_of_one_gives_the_plain_policy_gradient():
    now = torch.tensor([0.3, -0.2], requires_grad=True)
    policy_gradient.clipped(now, now.detach(), torch.tensor([2.0, -1.0]), 1e-4).backward()
    assert now.grad.tolist() == [-1.0, 0.5]


def test_a_bad_place_has_a_lower_reward_than_a_good_one_whatever_the_sign_of_the_whole():
    maps = torch.zeros(2, 1, 4, 4)
    maps[:, :, :2] = 1
    dense = policy_gradient.dense_rewards(torch.tensor([-3.0, 2.0]), maps, (2, 2))
    assert dense.shape == (2, 2, 2)
    assert dense[0, 0, 0] == dense[0, 1, 0] - 2
    assert dense[1, 0, 0] == dense[1, 1, 0] - 2
    assert dense.mean((1, 2)).tolist() == pytest.approx([-3.0, 2.0], abs=1e-6)


def test_the_window_slides_and_never_holds_the_last_step():
    assert list(policy_gradient.window(0, 6, 0, 25)) == [0, 1, 2, 3, 4]
    assert [list(policy_gradient.window(step, 6, 2, 10)) for step in (0, 9, 10, 35, 40)] == [
        [0, 1],
        [0, 1],
        [1, 2],
        [3, 4],
        [0, 1],
    ]
    assert list(policy_gradient.window(3, 4, 9, 1)) == [0, 1, 2]


def test_dpo_at_equality_is_log_2_and_falls_as_the_winner_gains():
    one = torch.tensor([0.4, 0.1])
    loss, margin = preference.dpo_loss(one, one + 0.2, one, one + 0.2, 100.0)
    assert float(loss) == pytest.approx(math.log(2))
    assert margin.abs().max() < 1e-5
    better, margin = preference.dpo_loss(one - 0.01, one + 0.2, one, one + 0.2, 100.0)
    assert float(better) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-4)
    assert margin.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


def test_a_weight_decides_how_much_a_pair_counts():
    now = torch.tensor([0.0, 1.0])
    loss, _ = preference.dpo_loss(now, torch.zeros(2), torch.zeros(2), torch.zeros(2), 2.0, torch.tensor([1.0, 0.0]))
    assert float(loss) == pytest.approx(math.log(2))


def test_denoising_errors_are_means_over_an_image():
    assert preference.errors(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).tolist() == [1.0, 1.0]


def test_the_best_are_paired_with_the_worst():
    winners, losers, weight = preference.ranked_pairs(torch.tensor([[0.1, 0.9, 0.5, 0.3]]), 2)
    assert winners.tolist() == [[1, 1, 2, 2]]
    assert losers.tolist() == [[3, 0, 3, 0]]
    assert float(weight.mean()) == pytest.approx(1.0)
    assert weight[0].tolist() == pytest.approx([1.2, 1.6, 0.4, 0.8])
    with pytest.raises(ValueError, match="overlap"):
        preference.ranked_pairs(torch.rand(1, 3), 2)
