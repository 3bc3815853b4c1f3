"""DPO's objective, by hand."""

import math

import pytest
import torch
from toy_diffusion import LOW, diffusion_policy, grey_reward, toy, training_step

from fgr.recipe.algorithms import DpoSettings
from fgr.rlhf.algorithms import dpo
from fgr.rlhf.inputs import Batch

MODELS = ("sd-x4-upscaler",)


def test_dpo_at_equality_is_log_2_and_falls_as_the_winner_gains():
    one = torch.tensor([0.4, 0.1])
    loss, margin = dpo.dpo_loss(one, one + 0.2, one, one + 0.2, 100.0)
    assert float(loss) == pytest.approx(math.log(2))
    assert margin.abs().max() < 1e-5
    better, margin = dpo.dpo_loss(one - 0.01, one + 0.2, one, one + 0.2, 100.0)
    assert float(better) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-4)
    assert margin.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


def test_a_weight_decides_how_much_a_pair_counts():
    now = torch.tensor([0.0, 1.0])
    loss, _ = dpo.dpo_loss(now, torch.zeros(2), torch.zeros(2), torch.zeros(2), 2.0, torch.tensor([2.0, 0.0]))
    assert float(loss) == pytest.approx(math.log(2))


def test_denoising_errors_are_means_over_an_image():
    assert dpo.errors(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).tolist() == [1.0, 1.0]


def test_the_best_are_paired_with_the_worst():
    winners, losers, weight = dpo.ranked_pairs(torch.tensor([[0.1, 0.9, 0.5, 0.3]]), 2)
    assert winners.tolist() == [[1, 1, 2, 2]]
    assert losers.tolist() == [[3, 0, 3, 0]]
    assert float(weight.mean()) == pytest.approx(1.0)
    assert weight[0].tolist() == pytest.approx([1.2, 1.6, 0.4, 0.8])
    with pytest.raises(ValueError, match="overlap"):
        dpo.ranked_pairs(torch.rand(1, 3), 2)


def pairs():
    generator = torch.Generator().manual_seed(2)
    low = torch.rand(1, 3, 16, 16, generator=generator)
    return Batch(low, *(torch.rand(1, 3, 64, 64, generator=generator) for _ in range(2)), 1)


def test_errors_are_taken_without_guidance_and_samples_with_it(folder):
    """At guidance 1 the error is the same whatever guidance the policy samples with."""
    errors = []
    for guidance in (1.0, 9.0):
        policy = diffusion_policy("sd-x4-upscaler", {"steps": 2, "guidance": guidance})
        algorithm = dpo.Dpo(policy, [grey_reward()], DpoSettings(name="dpo"))
        errors.append(algorithm.step(pairs(), training_step(policy))["error"])
        assert policy.model.settings["guidance"] == guidance
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_the_network_runs_in_the_recipes_precision():
    seen = []
    policy = toy()
    policy.network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    good, bad = torch.full((2, 3, 32, 32), 0.7), torch.full((2, 3, 32, 32), 0.2)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    dpo.Dpo(policy, [grey_reward()], DpoSettings(name="dpo"), autocast=autocast).step(
        Batch(LOW, good, bad, 0), training_step(policy)
    )
    assert set(seen) == {torch.bfloat16}
