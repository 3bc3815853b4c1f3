import math

import pytest
import torch

from fgr.reward.loss import (
    MAP_LOSSES,
    align_loss,
    human_loss,
    map_loss,
    map_rank_loss,
    pair_loss,
    pooled_target,
    preference_loss,
    rank_loss,
)
from fgr.reward.objective import Objective, Terms


def grid(*values):
    return torch.tensor(values).view(1, 1, 2, 2)


def test_map_loss_by_hand():
    map_, target = grid(0.5, 0.2, 0.0, 1.0), grid(0.25, 0.2, 0.5, 0.0)
    assert map_loss(map_, target, torch.ones(1, 1, 2, 2)).item() == pytest.approx((0.25 + 0 + 0.5 + 1) / 4)
    assert map_loss(map_, target, grid(1.0, 0.0, 1.0, 0.0)).item() == pytest.approx((0.25 + 0.5) / 2)


def test_each_image_counts_alike_and_the_unknown_not_at_all():
    map_ = torch.cat([grid(1.0, 1.0, 1.0, 1.0), grid(0.5, 0.0, 0.0, 0.0), grid(1.0, 1.0, 1.0, 1.0)])
    known = torch.cat([grid(1.0, 1.0, 1.0, 1.0), grid(1.0, 0.0, 0.0, 0.0), grid(0.0, 0.0, 0.0, 0.0)])
    assert map_loss(map_, torch.zeros_like(map_), known).item() == pytest.approx((1 + 0.5) / 2)
    assert map_loss(map_, torch.zeros_like(map_), torch.zeros_like(map_)).item() == 0


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
    assert rank_loss(sr, composite, reference, (0.25, 0.1), one, one).item() == pytest.approx(0.35 + 0.025)
    first = torch.tensor([1.0, 0.0])
    assert rank_loss(sr, composite, reference, (0.25, 0.1), first, first).item() == pytest.approx(0.05 + 0.05)
    each = torch.tensor([0.25, 0.0]), torch.tensor([0.1, 0.5])  # a margin an image: shortfalls 0.05 and 0.4; 0.05 and 0.1
    assert rank_loss(sr, composite, reference, each, one, one).item() == pytest.approx(0.225 + 0.075)


@pytest.mark.parametrize(("of", "expected"), [("image", (0.5 + 0.3)), ("area", (0.5 * 0.75 + 0.3 * 0.25))])
def test_margins_of_the_image_or_of_the_area_that_differs(of, expected):
    class Same:  # a score that tells nothing apart falls short by the whole margin
        def __call__(self, images):
            return images.new_ones(len(images)), images[:, :1]

    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4, :4] = 1
    image = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    batch = {"reference": image, "composite": image, "sr": image, "mask": mask, "target": 0.5 * mask}
    terms = Terms(rank=1, margins=(0.5, 0.3), margins_of=of)
    parts = Objective(terms, base=lambda images: images.new_ones(len(images)))(Same(), batch, scale=2.0, cell=0)
    assert parts["rank"].item() == pytest.approx(expected)


def test_a_restored_images_map_must_lie_above_its_references_where_they_differ():
    cleaner = torch.full((1, 1, 1, 3), 0.5)
    worse = torch.sigmoid(torch.tensor([0.4, 5.0, -3.0])).view(1, 1, 1, 3)
    weight = torch.tensor([3.0, 1.0, 0.0]).view(1, 1, 1, 3)
    assert map_rank_loss(cleaner, worse, weight).item() == pytest.approx((3 * 0.6 + 0) / 4)
    assert map_rank_loss(torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 3), weight).item() == 0


def test_the_map_of_the_restored_image_is_ranked_off_the_mask_too():
    images = torch.zeros(1, 3, 16, 32, dtype=torch.uint8)
    differs = images.clone()
    differs[..., 16:] = 50
    batch = {"reference": images, "composite": images, "sr": differs, "mask": torch.zeros(1, 1, 16, 32)}
    batch["target"] = torch.zeros(1, 1, 16, 32)

    def model(stacked, heat):
        maps = torch.full((3, 1, 16, 32), 0.1)
        maps[2, :, :, 16 + 5 :] = heat  # off the edge, over which differences are averaged
        return torch.zeros(3), maps

    objective = Objective(Terms(map_rank=1), base=lambda stacked: stacked.new_zeros(len(stacked)))
    blind, seeing = (objective(lambda x, heat=heat: model(x, heat), batch, 1.0, 1)["map_rank"].item() for heat in (0.1, 0.9))
    assert blind == pytest.approx(1)
    assert 0 < seeing < 0.4
    assert "map_rank" not in objective(lambda x: model(x, 0.1), batch, 1.0, 0)  # RM_0 has no map


def test_verdicts_are_ranked_where_images_differ():
    """Two places side by side; the right one differs, in the first row's composite and in both rows' SR images."""
    verdicts = {
        "reference": [[0.5, 0.5], [0.5, 0.5]],
        "composite": [[9.0, 0.4], [0.0, 9.0]],  # 9: must not count, the images are alike there, or the row is not visible
        "sr": [[9.0, 0.0], [9.0, 0.7]],
    }

    def model(images, places=False):
        assert places
        return torch.zeros(6), images[:, :1], torch.tensor([row for rows in verdicts.values() for row in rows])[:, None]

    clean, half = torch.zeros(2, 3, 4, 8, dtype=torch.uint8), torch.zeros(2, 3, 4, 8, dtype=torch.uint8)
    half[..., 4:] = 100
    visible = torch.tensor([0.1, 0.0]).view(2, 1, 1, 1)  # the second row is a sham
    batch = {
        "reference": clean,
        "composite": half,
        "sr": half,
        "mask": torch.zeros(2, 1, 4, 8),
        "target": visible.expand(2, 1, 4, 8),
    }
    terms = Terms(rank=1, align=0, margins=(9.0, 0.3), rank_of="place")
    parts = Objective(terms, base=lambda images: images.new_zeros(len(images)))(model, batch, scale=1.0, cell=0)
    assert parts["rank"].item() == pytest.approx(0.2 + (0 + 0.5) / 2)


def test_distilling_wants_the_falls_from_the_clean_image_too():
    wanted = {"reference": 1.0, "composite": 0.6, "sr": 0.2}
    batch = {name: torch.full((1, 3, 8, 8), round(100 * value), dtype=torch.uint8) for name, value in wanted.items()}

    def shifted(images):  # every score 0.4 too high: an error for the scores, none for the falls
        return images.mean((1, 2, 3)) * 2.55 + 0.4, images[:, :1]

    def flat(images):  # one score for all: falls of 0, 0.4 and 0.8 are missed
        return torch.ones(len(images)), images[:, :1]

    objective = Objective(Terms(), None, target=lambda images, reference: images.mean((1, 2, 3)) * 2.55)
    assert objective(shifted, batch, 1.0, 0)["distil"].item() == pytest.approx(0.4**2 / 2)
    error = (0.4**2 + 0.8**2) / 2
    assert objective(flat, batch, 1.0, 0)["distil"].item() == pytest.approx(error / 3 + error / 2)


def test_a_student_ranks_places_too():
    images = {
        name: torch.full((1, 3, 8, 8), value, dtype=torch.uint8)
        for name, value in (("reference", 200), ("composite", 100), ("sr", 100))
    }
    batch = images | {"mask": torch.ones(1, 1, 8, 8), "target": torch.ones(1, 1, 8, 8)}

    def model(stacked, places):
        return torch.zeros(3), stacked[:, :1], torch.tensor([0.5, 0.4, 0.1]).view(3, 1, 1).expand(3, 2, 2)

    objective = Objective(Terms(rank=8, rank_of="place"), None, target=lambda stacked, _: stacked.new_zeros(len(stacked)))
    parts = objective(model, batch, 1.0, 0)
    assert parts["distil"].item() == 0
    assert parts["rank"].item() == pytest.approx(0.4 + 0.1)  # margins of 0.5, falls of 0.1 and 0.4
    assert parts["total"].item() == pytest.approx(0.25 * 8 * 0.5)


def test_logistic_ranking_by_hand():
    loss = pair_loss(torch.tensor([1.0]), torch.tensor([0.0]), 0.0, torch.ones(1), "logistic")
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_scores_against_their_anchors_by_hand():
    assert align_loss(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 1.5])).item() == pytest.approx(0.375)
    human = human_loss(torch.tensor([0.5, 0.0]), torch.tensor([0.7, 1.0]), torch.tensor([0.5, 0.0]))
    assert human.item() == pytest.approx(0.15)


def test_bradley_terry_by_hand():
    left, right = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 1.0])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(2)) / 3
    assert preference_loss(left, right, torch.tensor([1.0, 0.0, 0.5])).item() == pytest.approx(expected)
