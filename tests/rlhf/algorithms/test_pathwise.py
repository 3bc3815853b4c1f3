"""ReFL and DRaFT: where the gradient is taken, what lets go of it, and what it costs."""

import numpy as np
import pytest
import torch
from toy_diffusion import LOW as TOY_LOW
from toy_diffusion import diffusion_policy, grey_reward, optimized, toy, training_step

from fgr.recipe.algorithms import DraftSettings, ReflSettings
from fgr.rlhf.algorithms.pathwise import Pathwise, drawn_steps
from fgr.rlhf.inputs import Batch

MODELS = ("diffbir", "seesr", "pisasr", "invsr", "s3diff")  # one folder of weights
REFL, DRAFT = ReflSettings(name="refl", hinge=None), DraftSettings(name="draft", hinge=None)
CASES = [("diffbir", REFL, 2), ("diffbir", DRAFT, 2), ("seesr", REFL, 2), ("seesr", DRAFT, 2)]  # under a ControlNet
CASES += [("pisasr", REFL, 1), ("invsr", DRAFT, 1), ("s3diff", REFL, 1)]  # in one step, where both are the same


@pytest.mark.parametrize(("name", "settings", "steps"), CASES)
def test_policies_get_a_gradient_wherever_they_learn(folder, name, settings, steps):
    policy = diffusion_policy(name, {"steps": steps, "negative_prompt": ""})
    low = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    Pathwise(policy, [grey_reward()], settings).step(Batch(low, None), training_step(policy))
    gradients = {key: value.grad for key, value in policy.learned().items()}
    assert all(one is not None and one.isfinite().all() for one in gradients.values())
    assert any(one.abs().max() > 0 for one in gradients.values())
    assert any("image_attentions" in key for key in gradients) == (name == "seesr")


def test_a_hinge_lets_go_of_images_that_are_good_enough():
    policy = toy()
    algorithm = Pathwise(policy, [grey_reward()], DraftSettings(name="draft", hinge=-100.0))
    algorithm.step(Batch(TOY_LOW, None), training_step(policy))
    assert all(float(value.grad.abs().max()) == 0 for value in policy.learned().values())


def test_the_anchor_holds_predictions_to_those_of_the_start():
    distances = []
    for anchor in (0.0, 100.0):
        policy = toy()
        optimized(Pathwise(policy, [grey_reward()], DraftSettings(name="draft", hinge=None, anchor=anchor)), policy, 40, 0.02)
        distances.append(float((policy(TOY_LOW) - policy.start(TOY_LOW)).abs().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_the_low_frequency_loss_pulls_early_predictions_to_the_reference():
    policy = toy()
    settings = ReflSettings(
        name="refl", hinge=-100.0, low_frequency=1.0
    )  # the reward lets go: only the low-frequency loss is left
    before, after = optimized(Pathwise(policy, [grey_reward()], settings), policy, 80, 0.02)
    assert after > before + 0.5


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_early_step_is_not_after_the_late_one_wherever_that_is_drawn(steps):
    drawn = [drawn_steps(np.random.default_rng(seed), steps, (0.0, 1.0), 1.0) for seed in range(200)]
    assert {late for late, _ in drawn} == set(range(steps))
    assert all(0 <= early <= late for late, early in drawn)
    assert any(early < late for late, early in drawn) or steps == 1


@pytest.mark.parametrize(
    ("steps", "late", "allowed"), [(1, (0.75, 1.0), {0}), (40, (0.75, 1.0), set(range(30, 40))), (3, (0.9, 1.0), {2})]
)
def test_the_late_step_is_one_of_the_share_asked_for(steps, late, allowed):
    drawn = [drawn_steps(np.random.default_rng(seed), steps, late, 0.4) for seed in range(300)]
    assert {chosen for chosen, _ in drawn} == allowed
    assert {early for _, early in drawn} == set(range(max(1, round(0.4 * steps))))


def test_every_step_has_its_low_frequency_loss_wherever_the_late_one_is():
    policy, reference = toy(3), torch.full((2, 3, 32, 32), 0.7)
    algorithm = Pathwise(policy, [grey_reward()], ReflSettings(name="refl", late=(0.0, 1.0), early=1.0, low_frequency=1.0))
    chosen = set()
    for number in range(12):
        figures = algorithm.step(Batch(TOY_LOW, reference, None, number), training_step(policy))
        chosen.add(figures["denoising_step"])
        assert figures["low_frequency"] > 0
    assert chosen == {0, 1, 2}


def test_memory_of_draft_is_bound_by_its_last_steps():
    kept = []
    for last in (1, 3):
        policy, sizes = toy(), []
        algorithm = Pathwise(policy, [grey_reward()], DraftSettings(name="draft", last=last))
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            algorithm.step(Batch(TOY_LOW, None), training_step(policy, backward=lambda loss: None))
        kept.append(sum(sizes))
    assert kept[0] < kept[1]
