"""Back-propagation through a network: what a step raises, and what the anchor weighs against it."""

import pytest
import torch
from toy_diffusion import training_step

from fgr.recipe.rlhf import Anchor
from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.rlhf.algorithms.direct import PROBE, Direct
from fgr.rlhf.inputs import Batch
from fgr.rlhf.policies import open_policy
from fgr.rlhf.trained_reward import Reward
from fgr.sr import parse_name

LOW = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def brightness(weight):
    reward = Reward("brightness", lambda images: [images.mean((1, 2, 3))], {"brightness": 1.0})
    reward.weight = weight
    return reward


def brightened(name, anchor, weight=50.0, steps=5):
    """By how much a few steps of gradient descent brighten the policy's outputs."""
    policy = open_policy(parse_name(name))
    policy.learn(PolicySettings(train="all"))
    algorithm = Direct(policy, [brightness(weight)], anchor)
    optimizer = torch.optim.Adam(policy.learned().values(), lr=1e-3)
    for number in range(steps):
        figures = algorithm.step(Batch(LOW, None, None, number), training_step(policy))
        optimizer.step()
        optimizer.zero_grad()
    assert set(figures) >= {"reward", "reward_gradient", "anchor_start"}
    with torch.no_grad():
        return float((policy(LOW) - policy.start(LOW)).mean())


def test_steps_raise_the_reward_and_the_anchor_holds_against_it(network_files):
    free, anchored = (brightened(network_files["compact"], Anchor(start=start)) for start in (1e-6, 1e4))
    assert free > 0.01
    assert abs(anchored) < 0.5 * free


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_the_anchors_norm_is_that_of_its_gradient_near_the_start(network_files, weight):
    policy = open_policy(parse_name(network_files["compact"]))
    policy.learn(PolicySettings(train="all"))
    start = policy.start(LOW)
    algorithm = Direct(policy, [brightness(1.0)], Anchor(distance="l2", start=weight))
    # the gradient of the mean square is 2·displacement/n, and the displacement is PROBE times unit noise
    expected = weight * 2 * PROBE / start.numel() * start.numel() ** 0.5
    assert algorithm.anchor_norm(Batch(LOW, None), start) == pytest.approx(expected, rel=0.05)
