import math
from typing import get_args

import pytest
import torch

from fgr.recipe.reward import Loss
from fgr.reward.loss import (
    MAP_LOSSES,
    PAIR_LOSSES,
    align_loss,
    human_loss,
    map_loss,
    map_rank_loss,
    pair_loss,
    pooled_target,
    preference_loss,
    rank_loss,
)


def grid(*values):
    return torch.tensor(values).view(1, 1, 2, 2)


def test_map_loss_by_hand():
    map_, target = grid(0.5, 0.2, 0.0, 1.0), grid(0.25, 0.2, 0.5, 0.0)
    assert map_loss(map_, target, torch.ones(1, 1, 2, 2), "l1").item() == pytest.approx((0.25 + 0 + 0.5 + 1) / 4)
    assert map_loss(map_, target, grid(1.0, 0.0, 1.0, 0.0), "l1").item() == pytest.approx((0.25 + 0.5) / 2)


def test_each_image_counts_alike_and_the_unknown_not_at_all():
    map_ = torch.cat([grid(1.0, 1.0, 1.0, 1.0), grid(0.5, 0.0, 0.0, 0.0), grid(1.0, 1.0, 1.0, 1.0)])
    known = torch.cat([grid(1.0, 1.0, 1.0, 1.0), grid(1.0, 0.0, 0.0, 0.0), grid(0.0, 0.0, 0.0, 0.0)])
    assert map_loss(map_, torch.zeros_like(map_), known, "l1").item() == pytest.approx((1 + 0.5) / 2)
    assert map_loss(map_, torch.zeros_like(map_), torch.zeros_like(map_), "l1").item() == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("l1", 0.2),
        ("smooth-l1", 0.15),  # |d| − β/2 beyond β = 0.1
        ("bce", -(0.7 * math.log(0.5) + 0.3 * math.log(0.5))),
        ("focal", 0.04 * math.log(2)),
        ("l1+bce", 0.2 + math.log(2)),
    ],
)
def test_kinds_of_map_loss_by_hand(kind, value):
    assert set(MAP_LOSSES) == {"l1", "smooth-l1", "bce", "focal", "l1+bce"}
    map_, target = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 0.7)
    assert map_loss(map_, target, torch.ones_like(map_), kind).item() == pytest.approx(value, abs=1e-6)


def test_bce_stays_finite_at_the_ends():
    map_ = grid(0.0, 1.0, 0.0, 1.0).requires_grad_()
    loss = map_loss(map_, grid(1.0, 0.0, 0.0, 1.0), torch.ones(1, 1, 2, 2), "bce")
    loss.backward()
    assert loss.isfinite()
    assert map_.grad.isfinite().all()


def test_a_coarse_target_is_the_mean_of_wholly_known_cells():
    target = torch.arange(16.0).view(1, 1, 4, 4) / 16
    known = torch.ones(1, 1, 4, 4)
    known[0, 0, 3, 3] = 0
    coarse, whole = pooled_target(target, known, 2)
    assert coarse[0, 0, 0].tolist() == pytest.approx([2.5 / 16, 2.5 / 16, 4.5 / 16, 4.5 / 16])
    assert whole[0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_a_coarse_target_of_an_odd_size_keeps_its_size():
    coarse, _ = pooled_target(torch.ones(1, 1, 5, 7), torch.ones(1, 1, 5, 7), 4)
    assert coarse.shape == (1, 1, 5, 7)
    assert torch.equal(coarse, torch.ones(1, 1, 5, 7))


def test_rank_loss_by_hand():
    sr, composite, reference = torch.tensor([0.1, 0.9]), torch.tensor([0.3, 0.5]), torch.tensor([0.35, 0.9])
    one = torch.ones(2)
    # m1 = 0.25: shortfalls 0.05 and 0.65; m2 = 0.1: 0.05 and 0
    assert rank_loss(sr, composite, reference, (0.25, 0.1), one, one, "margin").item() == pytest.approx(0.35 + 0.025)
    first = torch.tensor([1.0, 0.0])
    assert rank_loss(sr, composite, reference, (0.25, 0.1), first, first, "margin").item() == pytest.approx(0.05 + 0.05)
    each = torch.tensor([0.25, 0.0]), torch.tensor([0.1, 0.5])  # a margin an image: shortfalls 0.05 and 0.4; 0.05 and 0.1
    assert rank_loss(sr, composite, reference, each, one, one, "margin").item() == pytest.approx(0.225 + 0.075)


def test_a_restored_images_map_must_lie_above_its_references_where_they_differ():
    cleaner = torch.full((1, 1, 1, 3), 0.5)
    worse = torch.sigmoid(torch.tensor([0.4, 5.0, -3.0])).view(1, 1, 1, 3)
    weight = torch.tensor([3.0, 1.0, 0.0]).view(1, 1, 1, 3)
    assert map_rank_loss(cleaner, worse, weight).item() == pytest.approx((3 * 0.6 + 0) / 4)
    assert map_rank_loss(torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 3), weight).item() == 0


def test_logistic_ranking_by_hand():
    loss = pair_loss(torch.tensor([1.0]), torch.tensor([0.0]), 0.0, torch.ones(1), "logistic")
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_scores_against_their_anchors_by_hand():
    assert align_loss(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 1.5])).item() == pytest.approx(0.375)
    score, rated = torch.tensor([0.5, 0.0, 3.0]), torch.tensor([0.7, 0.2, 1.0])
    human = human_loss(score, rated, torch.tensor([1.0, 1.0, 0.0]))
    assert human.item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-5)  # one pair, in order; the third is not rated
    assert human_loss(score, rated**3, torch.tensor([1.0, 1.0, 0.0])).item() == pytest.approx(human.item())  # the order alone
    assert human_loss(score, rated, torch.tensor([1.0, 0.0, 0.0])).item() == 0


def test_bradley_terry_by_hand():
    left, right = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(2)) / 3
    assert preference_loss(left, right, torch.tensor([1.0, 0.0, 0.5])).item() == pytest.approx(expected)


def test_the_recipe_knows_every_kind_of_loss():
    fields = Loss.model_fields
    assert set(get_args(fields["map_kind"].annotation)) == set(MAP_LOSSES)
    assert set(get_args(fields["rank_kind"].annotation)) == set(PAIR_LOSSES)
