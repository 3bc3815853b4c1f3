"""The objective, by hand."""

import pytest
import torch

from fgr.rlhf import objective
from fgr.rlhf.objective import Anchor, anchor_terms


def image(*values: float) -> torch.Tensor:
    """A grey 2×2 image (1, 3, 2, 2) with these values."""
    return torch.tensor(values).view(1, 1, 2, 2).repeat(1, 3, 1, 1)


OUTPUT, START, REFERENCE = image(0.5, 0.5, 0.5, 0.5), image(0.5, 0.3, 0.5, 0.5), image(0.1, 0.5, 0.5, 0.5)
LOW = torch.full((1, 3, 1, 1), 0.7)


def test_each_anchor_term_is_what_one_gets_by_hand():
    anchor = Anchor(start=2.0, reference=1.0, low_frequency=4.0, low_frequency_size=2, consistency=3.0)
    terms = anchor_terms(anchor, OUTPUT, LOW, START, REFERENCE)
    assert {name: pytest.approx(float(value)) for name, value in terms.items()} == {
        "start": 2 * 0.2 / 4,
        "reference": 0.4 / 4,
        "low_frequency": 4 * 0.05,  # means 0.5 and 0.45
        "consistency": 3 * 0.2,  # 0.5 scaled down is 0.5
    }
    assert float(objective.total(terms)) == pytest.approx(0.1 + 0.1 + 0.2 + 0.6)


def test_l2_squares_and_weights_of_zero_leave_terms_out():
    terms = anchor_terms(Anchor(distance="l2"), OUTPUT, LOW, START, None)
    assert list(terms) == ["start"]
    assert float(terms["start"]) == pytest.approx(0.04 / 4)


def test_low_frequency_can_be_held_to_the_reference():
    anchor = Anchor(start=0, low_frequency=1.0, low_frequency_to="reference", low_frequency_size=2)
    assert float(anchor_terms(anchor, OUTPUT, LOW, START, REFERENCE)["low_frequency"]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="reference"):
        anchor_terms(anchor, OUTPUT, LOW, START, None)


def test_lpips_is_asked_for_by_its_weight_alone():
    terms = anchor_terms(Anchor(start=0, lpips=2.0), OUTPUT, LOW, START, None, perceptual=lambda a, b: (a - b).abs().max())
    assert float(terms["lpips"]) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="LPIPS"):
        anchor_terms(Anchor(start=0, lpips=2.0), OUTPUT, LOW, START, None)


def test_consistency_ignores_what_scaling_down_takes_away():
    fine = torch.full((1, 3, 8, 8), 0.5)
    fine[..., ::2, ::2] += 0.2
    fine[..., 1::2, 1::2] -= 0.2
    assert float((objective.scaled_down(fine, torch.zeros(1, 3, 2, 2)) - 0.5).abs().max()) < 0.02


def test_the_step_down_the_surrogate_is_a_step_up_the_reward():
    output = torch.zeros(1, 3, 2, 2, requires_grad=True)
    gradient = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    objective.surrogate(output, gradient).backward()
    assert torch.equal(output.grad, -gradient)


def test_a_fade_goes_from_the_old_gradient_to_the_new():
    old, new = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    assert objective.faded(old, new, 0.0).tolist() == [2.0, 0.0]
    assert objective.faded(old, new, 0.25).tolist() == [1.5, 1.0]
    assert objective.faded(old, new, 1.0).tolist() == [0.0, 4.0]


def test_a_bound_levels_off_and_zero_is_none():
    value = torch.tensor([0.0, 0.01, 100.0, -100.0])
    assert objective.bounded(value, 3.0).tolist() == pytest.approx([0.0, 0.01, 3.0, -3.0], abs=1e-6)
    assert torch.equal(objective.bounded(value, 0.0), value)


def test_the_weight_makes_the_rewards_gradient_the_asked_share_of_the_anchors():
    assert objective.reward_weight(reward_gradient=4.0, anchor_gradient=2.0, ratio=0.5) == 0.25
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="reward's gradient"):
            objective.reward_weight(wrong, 1.0, 0.5)
    with pytest.raises(ValueError, match="anchor's gradient"):
        objective.reward_weight(1.0, 0.0, 0.5)
