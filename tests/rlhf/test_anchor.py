"""The anchor's terms, by hand."""

import pytest
import torch

from fgr.recipe.rlhf import Anchor
from fgr.rlhf.anchor import anchor_terms, scaled_down, total


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
    assert float(total(terms)) == pytest.approx(0.1 + 0.1 + 0.2 + 0.6)


def test_l2_squares_and_weights_of_zero_leave_terms_out():
    terms = anchor_terms(Anchor(distance="l2"), OUTPUT, LOW, START, None)
    assert list(terms) == ["start"]
    assert float(terms["start"]) == pytest.approx(0.04 / 4)


def test_low_frequencies_can_be_compared_with_the_reference():
    anchor = Anchor(start=0, low_frequency=1.0, low_frequency_to="reference", low_frequency_size=2)
    assert float(anchor_terms(anchor, OUTPUT, LOW, START, REFERENCE)["low_frequency"]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="reference"):
        anchor_terms(anchor, OUTPUT, LOW, START, None)


@pytest.mark.parametrize("name", ["lpips", "lite0-distance"])
def test_a_perceptual_distance_is_asked_for_by_its_weight_alone(name):
    key = name.replace("-", "_")
    anchor = Anchor.model_validate({"start": 0, key: 2.0})
    assert list(anchor.perceptual) == [name]
    terms = anchor_terms(anchor, OUTPUT, LOW, START, None, {name: lambda a, b: (a - b).abs().amax((1, 2, 3))})
    assert {name: float(value) for name, value in terms.items()} == {key: pytest.approx(0.4)}
    with pytest.raises(ValueError, match=f"weighs {name}"):
        anchor_terms(anchor, OUTPUT, LOW, START, None)


def test_consistency_ignores_what_scaling_down_takes_away():
    fine = torch.full((1, 3, 8, 8), 0.5)
    fine[..., ::2, ::2] += 0.2
    fine[..., 1::2, 1::2] -= 0.2
    assert float((scaled_down(fine, torch.zeros(1, 3, 2, 2)) - 0.5).abs().max()) < 0.02
