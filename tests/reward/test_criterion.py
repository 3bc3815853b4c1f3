import pytest
import torch

from fgr.recipe.reward import Loss
from fgr.recipe.training_defects import Planted
from fgr.reward.criterion import Criterion, labels, orders


@pytest.mark.parametrize(("of", "expected"), [("image", (0.5 + 0.3)), ("area", (0.5 * 0.75 + 0.3 * 0.25))])
def test_margins_of_the_image_or_of_the_area_that_differs(of, expected):
    class Same:  # a score that tells nothing apart falls short by the whole margin
        def __call__(self, images):
            return images.new_ones(len(images)), images[:, :1]

    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4, :4] = 1
    image = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    batch = {"reference": image, "composite": image, "sr": image, "mask": mask, "target": 0.5 * mask}
    settings = Loss(rank=1, margins=(0.5, 0.3), margins_of=of)
    parts = Criterion(settings, base=lambda images: images.new_ones(len(images)))(Same(), batch, scale=2.0, cell=0)
    assert parts["rank"].item() == pytest.approx(expected)


def test_maps_of_restored_images_are_known_everywhere_where_the_dataset_has_them():
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :4] = 1
    mask[1] = 1
    whole = torch.rand(2, 1, 8, 8) + 0.01
    batch = {"mask": mask, "target": mask * whole}
    targets, known = labels(batch)
    assert [int(part.sum()) for part in known.chunk(3)] == [128, 128, 32 + 64]  # of version 0.1: where masks are full
    targets, known = labels(batch | {"sr_target": whole})
    assert known.min() == 1
    reference, composite, sr = targets.chunk(3)
    assert not reference.any()
    assert torch.equal(composite, mask * whole)
    assert torch.equal(sr, whole)


def test_the_map_loss_counts_a_restored_image_outside_its_mask():
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    none = torch.zeros(1, 1, 8, 8)
    batch = {"reference": image, "composite": image, "sr": image, "mask": none, "target": none}
    criterion = Criterion(Loss(map_kind="l1"), base=lambda images: images.new_zeros(len(images)))

    def clean(images):
        return images.new_zeros(len(images)), images[:, :1] * 0

    assert criterion(clean, batch, 1.0, 1)["map"].item() == 0
    assert criterion(clean, batch | {"sr_target": none + 0.6}, 1.0, 1)["map"].item() == pytest.approx(0.2)


def test_the_map_of_the_restored_image_is_ranked_off_the_mask_too():
    images = torch.zeros(1, 3, 16, 32, dtype=torch.uint8)
    differs = images.clone()
    differs[..., 16:] = 50
    batch = {"reference": images, "composite": images, "sr": differs, "mask": torch.zeros(1, 1, 16, 32)}
    batch["target"] = torch.zeros(1, 1, 16, 32)

    def model(stacked, severity):
        maps = torch.full((3, 1, 16, 32), 0.1)
        maps[2, :, :, 16 + 5 :] = severity  # off the edge, over which differences are averaged
        return torch.zeros(3), maps

    criterion = Criterion(Loss(map_rank=1), base=lambda stacked: stacked.new_zeros(len(stacked)))
    blind, seeing = (
        criterion(lambda x, severity=severity: model(x, severity), batch, 1.0, 1)["map_rank"].item() for severity in (0.1, 0.9)
    )
    assert blind == pytest.approx(1)
    assert 0 < seeing < 0.4
    assert "map_rank" not in criterion(lambda x: model(x, 0.1), batch, 1.0, 0)  # RM_0 has no map


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
    settings = Loss(rank=1, align=0, margins=(9.0, 0.3), rank_of="place")
    parts = Criterion(settings, base=lambda images: images.new_zeros(len(images)))(model, batch, scale=1.0, cell=0)
    assert parts["rank"].item() == pytest.approx(0.2 + (0 + 0.5) / 2)


@pytest.mark.parametrize("faint", [0.02, 0.5])
def test_margins_of_the_map_count_every_image_alike(faint):
    """Two rows, two places; the right one is worse by `faint` in the first row, by 0.4 in the second."""
    half = torch.zeros(2, 1, 4, 8)
    half[..., 4:] = 1
    target = half * torch.tensor([faint, 0.4]).view(2, 1, 1, 1)
    images = dict.fromkeys(
        ("reference", "composite", "sr"), torch.zeros(2, 3, 4, 8, dtype=torch.uint8)
    )  # differences do not count
    batch = images | {"mask": half, "target": target, "sr_target": target}

    def model(stacked, places=True):
        local = torch.zeros(6, 1, 2)
        local[:2, 0, 1] = 0.01  # references are better by that where the defect is
        return torch.zeros(6), stacked[:, :1], local

    settings = Loss(rank=1, margins=(9.0, 2.0), margins_of="map", rank_of="place")
    parts = Criterion(settings, base=lambda stacked: stacked.new_zeros(len(stacked)))(model, batch, 1.0, 0)
    assert parts["rank"].item() == pytest.approx(2 * ((2 * faint - 0.01) + (2 * 0.4 - 0.01)) / 2)


def test_margins_of_the_map_between_whole_images():
    target = torch.full((1, 1, 8, 8), 0.2)
    batch = dict.fromkeys(("reference", "composite", "sr"), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    batch |= {"mask": 0 * target, "target": target, "sr_target": 3 * target}
    settings = Loss(rank=1, margins=(0.5, 2.0), margins_of="map")
    criterion = Criterion(settings, base=lambda stacked: stacked.new_zeros(len(stacked)))
    parts = criterion(lambda x: (torch.zeros(3), x[:, :1]), batch, 1.0, 0)
    assert parts["rank"].item() == pytest.approx(0.5 * 0.4 + 2 * 0.2)


def test_the_map_margin_is_half_of_the_label_in_the_maps_own_units():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 4:] = 0.4
    batch = dict.fromkeys(("reference", "composite", "sr"), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    batch |= {"mask": 0 * target + 1, "target": target, "sr_target": target}
    maps = torch.full((3, 1, 8, 8), 0.05)
    maps[1, ..., 4:], maps[2, ..., 4:] = 0.15, 0.3  # the composite's lacks 0.1
    criterion = Criterion(Loss(map_margin=3, map=0, align=0), base=lambda stacked: stacked.new_zeros(len(stacked)))
    parts = criterion(lambda x: (torch.zeros(3), maps), batch, 1.0, 1)
    assert parts["map_margin"].item() == pytest.approx(4 * 0.1 / 2, rel=1e-4)
    assert parts["total"].item() == pytest.approx(3 * 0.2 + parts["rank"].item(), rel=1e-4)


def test_distilling_wants_the_falls_from_the_clean_image_too():
    wanted = {"reference": 1.0, "composite": 0.6, "sr": 0.2}
    batch = {name: torch.full((1, 3, 8, 8), round(100 * value), dtype=torch.uint8) for name, value in wanted.items()}

    def shifted(images):  # every score 0.4 too high: an error for the scores, none for the falls
        return images.mean((1, 2, 3)) * 2.55 + 0.4, images[:, :1]

    def flat(images):  # one score for all: falls of 0, 0.4 and 0.8 are missed
        return torch.ones(len(images)), images[:, :1]

    criterion = Criterion(Loss(), None, target=lambda images, reference: images.mean((1, 2, 3)) * 2.55)
    assert criterion(shifted, batch, 1.0, 0)["distil"].item() == pytest.approx(0.4**2 / 2)
    error = (0.4**2 + 0.8**2) / 2
    assert criterion(flat, batch, 1.0, 0)["distil"].item() == pytest.approx(error / 3 + error / 2)


def test_a_student_ranks_places_too():
    images = {
        name: torch.full((1, 3, 8, 8), value, dtype=torch.uint8)
        for name, value in (("reference", 200), ("composite", 100), ("sr", 100))
    }
    batch = images | {"mask": torch.ones(1, 1, 8, 8), "target": torch.ones(1, 1, 8, 8)}

    def model(stacked, places):
        return torch.zeros(3), stacked[:, :1], torch.tensor([0.5, 0.4, 0.1]).view(3, 1, 1).expand(3, 2, 2)

    criterion = Criterion(Loss(rank=8, rank_of="place"), None, target=lambda stacked, _: stacked.new_zeros(len(stacked)))
    parts = criterion(model, batch, 1.0, 0)
    assert parts["distil"].item() == 0
    assert parts["rank"].item() == pytest.approx(0.4 + 0.1)  # margins of 0.5, falls of 0.1 and 0.4
    assert parts["total"].item() == pytest.approx(0.25 * 8 * 0.5)


def pair_batch(on_sr, steady=0.0, defect=0.5):
    """Two rows: the right half of the first one's composite has a planted defect, the second one has nothing planted."""
    image, half = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8)
    half[0, ..., 4:] = 1 - steady
    rows = {
        "planted": torch.tensor([1.0, 0.0]),
        "planted_on_sr": torch.tensor([on_sr, 0.0]),
        "steady": torch.tensor([steady, 0.0]),
    }
    images = {"reference": image, "composite": image, "sr": image}
    return images | rows | {"mask": half, "target": defect * half, "sr_target": 0.2 + 0 * half, "planted_map": defect * half}


def pair_parts(batch, local, maps, **settings):
    """Parts of a model that gives these local scores of one row of places and these maps, each a value an image half."""

    def model(images, places):
        values = torch.tensor(local, dtype=torch.float32)  # (3, 2): reference, composite, SR by left and right half
        grid = torch.tensor(maps, dtype=torch.float32)
        per_image = [values[kind] for kind in range(3) for _ in range(2)]
        spread = [grid[kind].repeat_interleave(4).expand(1, 8, 8) for kind in range(3) for _ in range(2)]
        return torch.zeros(6), torch.stack(spread), torch.stack(per_image)[:, None]

    planted = Planted(share=0.5, margins=(2.0, 1.0, 0.5), **settings)
    criterion = Criterion(Loss(), lambda images: images.new_zeros(len(images)), planted=planted)
    return criterion(model, batch, 1.0, 1)


@pytest.mark.parametrize("on_sr", [0.0, 1.0])
def test_a_planted_image_is_held_against_the_same_image_without_the_defect(on_sr):
    """Margins of 2·0.5 in score, of 1 in log odds, and of 0.5·0.5 (times the room above 0.2, on SR) in the map."""
    plain, other = (2, 0) if on_sr else (0, 2)
    local, maps = [[9.0, 9.0]] * 3, [[0.9, 0.9]] * 3  # of the left half and of the other image nothing counts
    local[plain], local[1] = [5.0, 1.0], [7.0, 0.8]
    maps[plain], maps[1] = [0.7, 0.5], [0.1, 0.5]
    parts = pair_parts(pair_batch(on_sr), local, maps)
    assert parts["score_pairs"].item() == pytest.approx(1.0 - 0.2)
    assert parts["map_pairs"].item() == pytest.approx(1 + 4 * 0.25 * (0.8 if on_sr else 1))
    assert parts["steady"].item() == 0
    local[1], maps[1] = [7.0, 0.0], [0.1, 0.8]
    parts = pair_parts(pair_batch(on_sr), local, maps)
    assert parts["score_pairs"].item() == 0
    assert parts["map_pairs"].item() == 0
    assert other != plain


def test_what_nobody_sees_changes_neither_score_nor_map():
    local, maps = [[1.0, 1.0], [1.2, 1.4], [9.0, 9.0]], [[0.2, 0.2], [0.3, 0.1], [0.9, 0.9]]
    parts = pair_parts(pair_batch(0.0, steady=1.0), local, maps)
    assert parts["steady"].item() == pytest.approx(0.3 + 0.1)
    assert parts["score_pairs"].item() == parts["map_pairs"].item() == 0


def test_a_change_that_labels_know_is_neither_larger_nor_smaller_in_score_and_map():
    """An SR output whose map is 0.2, beside one of 0.5: a fall of 2·0.3 in score, a rise of 0.3 of the map."""
    batch = pair_batch(1.0, steady=1.0)
    batch["target"] = torch.full_like(batch["mask"], 0.5)
    due = [[9.0, 9.0], [1.0 - 0.6, 1.0 - 0.6], [1.0, 1.0]], [[0.9, 0.9], [0.6, 0.6], [0.3, 0.3]]
    assert pair_parts(batch, *due)["steady"].item() == pytest.approx(0, abs=1e-6)
    more = [due[0][0], [0.3, 0.4], due[0][2]], [due[1][0], [0.5, 0.7], due[1][2]]
    assert pair_parts(batch, *more)["steady"].item() == pytest.approx(0.05 + 0.1)


def test_pairs_have_the_weights_of_the_recipe():
    local, maps = [[1.0, 1.0], [1.2, 1.4], [9.0, 9.0]], [[0.2, 0.2], [0.3, 0.1], [0.9, 0.9]]
    totals = [
        pair_parts(pair_batch(0.0, steady), local, maps, score_pairs=scores, map_pairs=heights, steady=still)["total"].item()
        for steady, scores, heights, still in ((0, 0, 0, 0), (0, 3, 0, 0), (0, 0, 2, 0), (1, 0, 0, 0), (1, 0, 0, 5))
    ]
    parts = pair_parts(pair_batch(0.0), local, maps)
    assert totals[1] - totals[0] == pytest.approx(3 * parts["score_pairs"].item(), rel=1e-4)
    assert totals[2] - totals[0] == pytest.approx(2 * parts["map_pairs"].item(), rel=1e-4)
    assert totals[4] - totals[3] == pytest.approx(5 * 0.4, rel=1e-4)


def test_an_sr_output_need_not_be_worse_than_a_planted_image_nor_like_it():
    batch = pair_batch(0.0)
    batch["mask"] = torch.ones_like(batch["mask"])
    batch["target"] = torch.full_like(batch["mask"], 0.5)
    below, _ = orders(batch | {"mask": 0 * batch["mask"]})
    assert below.tolist() == [0, 1]
    del batch["sr_target"]
    _, known = labels(batch)
    assert [int(part[2 * 0].sum()) for part in known[4:].split(1)] == [0, 64]  # the mask is full, but of a defect
