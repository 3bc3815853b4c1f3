"""ReFL and DRaFT: where the gradient is taken, what lets go of it, and what it costs."""

import pytest
import torch
from toy_diffusion import LOW as TOY_LOW
from toy_diffusion import grey_reward, optimized, toy

from fgr.rlhf import pathwise
from fgr.rlhf.inputs import Batch


def test_a_hinge_lets_go_of_images_that_are_good_enough():
    policy = toy()
    algorithm = pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(hinge=-100.0))
    algorithm.step(policy, Batch(TOY_LOW, None), 0, 1.0, lambda loss: loss.backward(), lambda: None)
    assert all(float(value.grad.abs().max()) == 0 for value in policy.learned().values())


def test_the_anchor_holds_predictions_to_those_of_the_start():
    distances = []
    for anchor in (0.0, 100.0):
        policy = toy()
        optimized(
            pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(hinge=None, anchor=anchor)), policy, 40, 0.02
        )
        distances.append(float((policy(TOY_LOW) - policy.start(TOY_LOW)).abs().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_the_low_frequency_loss_pulls_early_predictions_to_the_reference():
    policy = toy()
    knobs = pathwise.Knobs(hinge=-100.0, low_frequency=1.0)  # the reward lets go: only the low-frequency loss is left
    before, after = optimized(pathwise.Pathwise(policy, [grey_reward()], "refl", knobs), policy, 80, 0.02)
    assert after > before + 0.5


@pytest.mark.parametrize("steps", [1, 3])
def test_the_late_step_is_one_that_there_is_and_the_early_one_not_after_it(steps):
    policy, reference = toy(steps), torch.full((2, 3, 32, 32), 0.7)
    algorithm = pathwise.Pathwise(policy, [grey_reward()], "refl", pathwise.Knobs(late=(0.9, 1.0), early=1.0, low_frequency=1.0))
    for number in range(8):
        batch = Batch(TOY_LOW, reference, None, number)
        figures = algorithm.step(policy, batch, 0, 1.0, lambda loss: loss.backward(), lambda: None)
        assert figures["denoising_step"] == steps - 1
        assert figures["low_frequency"] > 0


def test_memory_of_draft_is_bound_by_its_last_steps():
    kept = []
    for last in (1, 3):
        policy, sizes = toy(), []
        algorithm = pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(last=last))
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            algorithm.step(policy, Batch(TOY_LOW, None), 0, 1.0, lambda loss: None, lambda: None)
        kept.append(sum(sizes))
    assert kept[0] < kept[1]
