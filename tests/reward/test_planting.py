"""Planted defects in crops: labels that fit what is seen, nothing elsewhere, the same for the same seed."""

import numpy as np
import pytest
import torch
from skimage import data as photographs

from fgr.images import defects, swap
from fgr.recipe.training_defects import Planted
from fgr.reward import data as batches
from fgr.reward import planting, splits
from fgr.reward.planting import Planter

PHOTO = np.ascontiguousarray(photographs.astronaut()[:96, 150:246])
KNOWN = 0.2  # map of the SR output everywhere


def crop(reference=PHOTO):
    import cv2

    sr = cv2.GaussianBlur(reference, (0, 0), 1.5)
    mask = np.zeros(reference.shape[:2], np.uint8)
    mask[20:40, 20:40] = 255
    known = np.full(mask.shape, round(KNOWN * 65535), np.uint16)
    target = np.where(mask > 0, known, 0).astype(np.uint16)
    composite = swap.composite(sr, reference, mask)
    return {"reference": reference, "sr": sr, "composite": composite, "mask": mask, "target": target, "sr_target": known}


def planted(settings, count=40, on_sr=True, reference=PHOTO):
    planter, before = Planter(settings, 1.0, on_sr), crop(reference)
    return before, [planter(before, np.random.default_rng(seed)) for seed in range(count)]


def test_a_share_of_the_crops_is_planted_halves_on_either_image():
    _, drawn = planted(Planted(share=0.5), 200)
    assert 70 < sum(one.planted for one in drawn) < 130
    assert 0.35 < sum(one.on_sr for one in drawn) / sum(one.planted for one in drawn) < 0.65
    assert all(set(one.arrays) == {"planted_map"} and not one.arrays["planted_map"].any() for one in drawn if not one.planted)


def test_a_planted_image_is_the_plain_one_but_for_the_defect_and_its_map_at_least_that_of_the_plain_one():
    before, drawn = planted(Planted(share=1.0, unseen=0.0, full=0.3))
    masked = 0
    for one in drawn:
        plain, known = (before["sr"], before["sr_target"]) if one.on_sr else (before["reference"], 0 * before["target"])
        changed = (one.arrays["composite"] != plain).any(2)
        worse, target = one.arrays["planted_map"], one.arrays["target"]
        assert np.array_equal(target, np.maximum(known, worse))
        if not one.on_sr:
            assert not changed[one.arrays["mask"] == 0].any()
            assert not target[one.arrays["mask"] == 0].any()
            masked += int((one.arrays["mask"] == 0).any())
    assert masked >= 4
    assert sum(one.arrays["planted_map"].any() for one in drawn) > 36
    assert all(np.array_equal(value, crop()[name]) for name, value in before.items())  # its input is left alone


def test_what_is_planted_all_over_is_seen():
    _, drawn = planted(Planted(share=1.0, unseen=0.0, full=1.0), 30)
    assert sum(float(one.arrays["planted_map"].mean() / 65535 > 0.02) for one in drawn) > 26


def test_the_same_seed_plants_the_same():
    settings = Planted(share=1.0)
    one, again = (planted(settings, 12)[1] for _ in range(2))
    for first, second in zip(one, again, strict=True):
        assert first[1:] == second[1:]
        assert all(np.array_equal(value, second.arrays[name]) for name, value in first.arrays.items())


def test_what_is_held_out_is_never_drawn(monkeypatch):
    drawn = []
    draw = defects.draw

    def noted(kind, rng, shape, periods):
        drawn.append((kind, tuple(periods)))
        return draw(kind, rng, shape, periods)

    monkeypatch.setattr(defects, "draw", noted)
    planted(Planted(share=1.0, held_out=("ringing", "dots"), held_out_periods=(4,)), 60)
    assert {kind for kind, _ in drawn} == set(defects.KINDS) - {"ringing", "dots"}
    assert {periods for _, periods in drawn} == {(2, 3, 5, 6, 8)}


def test_a_kind_named_as_more_often_is_drawn_more_often(monkeypatch):
    drawn = []
    draw = defects.draw
    monkeypatch.setattr(defects, "draw", lambda kind, *others: drawn.append(kind) or draw(kind, *others))
    few = tuple(kind for kind in defects.KINDS if kind not in ("dots", "lines"))
    planted(Planted(share=1.0, unseen=0.0, held_out=few, more_often=("dots", "dots")), 60)
    assert 30 < drawn.count("dots") < 58
    assert drawn.count("dots") + drawn.count("lines") == 60


def test_grain_that_nobody_sees_is_not_marked_a_faint_lattice_is_and_strong_grain_too():
    flat = np.full((96, 96, 3), 128, np.uint8)
    planter = Planter(Planted(share=1.0), 1.0, True)

    def mean(image, kind):
        return float(planter.map(flat, image, kind)[16:-16, 16:-16].mean())

    def grain(sigma):
        noise = np.random.default_rng(0).normal(0, sigma, (96, 96, 1))
        return np.clip(np.rint(flat + noise), 0, 255).astype(np.uint8)

    assert mean(grain(1.5), "grain") < 0.01
    assert mean(grain(8), "grain") > 0.4
    lines = flat.copy()
    lines[:, ::4] += 6
    assert mean(lines, "lines") > 0.04
    tinted = np.clip(flat + np.array([16, -8, -8]), 0, 255).astype(np.uint8)
    assert mean(tinted, "colour-cast") > 0.2  # 1 − SSIM, of luminance, is blind to it


def test_severities_are_about_what_is_asked_for():
    for low, high in ((0.1, 0.1), (0.4, 0.4)):
        settings = Planted(
            share=1.0, unseen=0.0, full=1.0, severity=(low, high), held_out=("warp", "smoothing", "dots", "colour-cast")
        )
        _, drawn = planted(settings, 30, on_sr=False)
        assert low / 2 < np.median([one.arrays["planted_map"].mean() / 65535 for one in drawn]) < low * 1.5


@pytest.mark.parametrize(("kind", "worse"), [("sharpening", False), ("blur", True), ("smoothing", True)])
def test_what_sharpening_improved_does_not_count_as_worse(monkeypatch, kind, worse):
    """The reference itself in the place of the planted SR output. Blur gets nearer to it too, and is worse all the same."""
    monkeypatch.setattr(Planter, "_planted", lambda self, plain, kind, rng: PHOTO)
    settings = Planted(share=1.0, unseen=0.0, held_out=tuple(other for other in defects.KINDS if other != kind))
    _, drawn = planted(settings, 20)
    on_sr = [one for one in drawn if one.on_sr]
    assert len(on_sr) > 4
    assert any(one.arrays["planted_map"].any() for one in on_sr) == worse


def test_what_is_below_sight_is_steady():
    before, drawn = planted(Planted(share=1.0, unseen=1.0), 30)
    for one in drawn:
        plain = before["sr" if one.on_sr else "reference"]
        change = np.abs(one.arrays["composite"].astype(int) - plain)
        assert one.steady
        assert 0 < change.max() <= 3
        assert not one.arrays["planted_map"].any()
        assert one.arrays["target"].max() == (round(KNOWN * 65535) if one.on_sr else 0)


def test_without_maps_of_sr_outputs_references_alone_are_planted():
    before = crop()
    del before["sr_target"]
    planter = Planter(Planted(share=1.0), 1.0, False)
    assert not any(planter(before, np.random.default_rng(seed)).on_sr for seed in range(20))


def test_the_scale_is_that_of_the_datasets_maps():
    before = crop()
    target = np.minimum(0.7 * planting.smoothed(planting.tolerant_ssim_difference(before["reference"], before["sr"])), 1)
    batch = {name: torch.from_numpy(before[name].transpose(2, 0, 1)[None]) for name in ("reference", "sr")}
    mask = torch.from_numpy(before["mask"][None, None] / np.float32(255))
    batch |= {"mask": mask, "target": torch.from_numpy(target[None, None]) * mask}
    assert planting.scale_of([batch]) == pytest.approx(0.7, rel=1e-4)
    assert planting.scale_of([batch | {"target": 0 * mask}]) == 1  # shams alone


def test_crops_of_a_dataset_come_planted_with_their_labels(data):
    rows = splits.open_split(str(data), "train")
    planter = Planter(Planted(share=0.7, full=0.0), 1.0, True)
    samples = batches.Samples(rows, 48, True, planter=planter)
    draws = batches.Draws(len(rows), 6, 0, 4)
    plain = batches.Samples(rows, 48, True)
    for batch, drawn in zip(batches.loader(samples, draws, 0), draws, strict=True):
        assert batch["planted_map"].shape == batch["target"].shape
        assert batch["planted_map"].dtype == torch.float32
        assert torch.equal(batch["human_weight"], torch.zeros(6))
        for place, one in enumerate(drawn):
            same = torch.equal(batch["composite"][place], torch.from_numpy(plain[one]["composite"]))
            assert same == (not batch["planted"][place])
            assert torch.equal(batch["reference"][place], torch.from_numpy(plain[one]["reference"]))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"held_out": ("grid",)}, "held_out knows grain, checkerboard.* not grid"),
        ({"more_often": ("grid",)}, "more_often knows grain, checkerboard.* not grid"),
        ({"more_often": ("dots", "warp"), "held_out": ("warp",)}, "more_often names what held_out excludes: warp"),
        ({"held_out_periods": (7,)}, "held_out_periods knows .* not 7"),
        ({"held_out": tuple(defects.KINDS)}, "must leave a kind"),
        ({"held_out_periods": (2, 4, 6)}, "one of 2, 4 and 6"),
        ({"severity": (0.5, 0.1)}, "ranges low high"),
    ],
)
def test_impossible_wishes_are_sentences(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        Planted(**keys)


def test_a_restored_output_is_the_better_of_the_pair_by_what_its_map_lost():
    settings = Planted(share=1.0, unseen=0.0, restored=1.0)
    before, drawn = planted(settings, 60)
    restored = [one for one in drawn if one.on_sr]
    assert len(restored) > 15
    distance = np.abs(before["sr"].astype(float) - before["reference"]).mean()
    for one in restored:
        arrays = one.arrays
        assert np.array_equal(arrays["composite"], before["sr"])  # the worse one, with all of its map
        assert np.array_equal(arrays["target"], before["sr_target"])
        assert np.array_equal(arrays["planted_map"] + arrays["sr_target"], before["sr_target"])
        left = np.abs(arrays["sr"].astype(float) - before["reference"]).mean()
        assert left < distance
        known = 1 - np.sqrt(arrays["sr_target"] / (KNOWN * 65535))  # how far it was moved, place by place
        assert known.mean() == pytest.approx(1 - left / distance, abs=0.15)
    assert not any((one.arrays.get("sr") is not None) for one in drawn if not one.on_sr)


def test_maps_fall_on_the_way_to_the_reference_as_restored_ones_are_said_to():
    from fgr.images.structural import ssim_difference

    reference, sr = PHOTO.astype(np.float32), crop()["sr"].astype(np.float32)
    whole = ssim_difference(PHOTO, crop()["sr"]).mean()
    for share in (0.1, 0.25, 0.5):
        moved = np.rint(sr + share * (reference - sr)).astype(np.uint8)
        assert ssim_difference(PHOTO, moved).mean() / whole == pytest.approx((1 - share) ** 2, abs=0.05)
