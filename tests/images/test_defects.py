"""Planted defects: nothing at strength 0, more with more strength, the same for the same seed, and severities that match."""

import numpy as np
import pytest
from skimage import data

from fgr.images import defects, patterns
from fgr.images.structural import ssim_difference
from fgr.records import PLANTED_KINDS

IMAGE = np.ascontiguousarray(data.astronaut()[:96, 150:246])
KINDS = list(defects.KINDS)


def structure(a, b):
    return float(ssim_difference(a, b).mean())


def shade(a, b):
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_changes_nothing_and_more_strength_changes_more(kind):
    apply = defects.draw(kind, np.random.default_rng(1), IMAGE.shape[:2])
    assert np.array_equal(defects.at_strength(IMAGE, apply, 0), IMAGE)
    distances = [shade(IMAGE, defects.at_strength(IMAGE, apply, strength)) for strength in (0.1, 0.3, 0.6, 1)]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_is_its_seed_and_leaves_its_input_alone(kind):
    before = IMAGE.copy()
    one, again, other = (defects.plant(IMAGE, kind, 0.5, np.random.default_rng(seed)) for seed in (2, 2, 3))
    assert np.array_equal(one, again)
    assert np.array_equal(IMAGE, before)
    assert one.dtype == np.uint8
    if kind not in ("blur",):  # nothing of it is drawn
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("dots", "colour-cast", "smoothing")])
def test_severities_match_across_kinds(kind):
    planted, strength = defects.matched(IMAGE, kind, 0.08, structure, np.random.default_rng(4))
    assert 0 < strength < 1
    assert structure(IMAGE, planted) == pytest.approx(0.08, abs=0.015)


def test_a_target_out_of_reach_gives_full_strength():
    planted, strength = defects.matched(IMAGE, "colour-cast", 0.9, structure, np.random.default_rng(5))
    assert strength == 1
    assert structure(IMAGE, planted) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_odd_sides_keep_their_size(kind):
    assert defects.plant(IMAGE[:37, :53], kind, 0.4, np.random.default_rng(6)).shape == (37, 53, 3)


def test_blocking_by_hand():
    # at strength 1 a block becomes its mean plus its step of deviation 12: inside a block every pixel is the same
    planted = defects.plant(IMAGE, "blocking", 1.0, np.random.default_rng(7))
    block = planted[8:16, 16:24].reshape(-1, 3)
    assert (block == block[0]).all()


def test_recipes_and_datasets_know_every_kind():
    assert tuple(defects.KINDS) == PLANTED_KINDS


def test_bad_arguments_are_refused():
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match="there is no defect 'grid'; known: grain"):
        defects.plant(IMAGE, "grid", 0.5, rng)
    with pytest.raises(ValueError, match=r"a strength lies in \[0, 1\], got 2"):
        defects.plant(IMAGE, "grain", 2, rng)
    with pytest.raises(ValueError, match="expected uint8"):
        defects.plant(IMAGE.astype(float), "grain", 0.5, rng)


def test_a_lattice_has_one_of_the_periods_that_it_may_have():
    flat = np.full((48, 48, 3), 128, np.uint8)
    for kind, periods in (("lines", (5,)), ("dots", (3, 8)), ("tiles", (5, 6)), ("checkerboard", (3, 4))):
        changed = 0
        for seed in range(6):
            apply = defects.draw(kind, np.random.default_rng(seed), flat.shape[:2], periods)
            planted = defects.at_strength(flat, apply, 0.5).astype(int)
            fits = [
                period
                for period in patterns.PERIODS
                if np.array_equal(planted[period:], planted[:-period])
                and np.array_equal(planted[:, period:], planted[:, :-period])
            ]
            assert set(fits) & set(periods), (kind, fits)
            changed += (planted != flat).any()
        assert changed >= (2 if kind == "tiles" else 6), "tiles may follow the contrast, of which there is none here"
    with pytest.raises(ValueError, match="checkerboard have the periods 2, 4, 6, not 3, 5"):
        defects.draw("checkerboard", np.random.default_rng(0), flat.shape[:2], (3, 5))


def test_a_weave_has_its_strength_in_a_few_narrow_bands_and_grain_has_not():
    flat = np.full((96, 96, 3), 128, np.uint8)

    def share_of_strongest(kind, seed):  # of the power, in the strongest hundredth of the frequencies
        planted = defects.plant(flat, kind, 0.5, np.random.default_rng(seed)).astype(float) - 128
        power = np.sort((np.abs(np.fft.rfft2(planted, axes=(0, 1))) ** 2).sum(2).ravel())
        return power[-len(power) // 100 :].sum() / power.sum() if power.sum() else None

    weaves = [share for seed in range(30) if (share := share_of_strongest("weave", seed)) is not None]
    assert 5 < len(weaves) < 25, "half of them follow the contrast, of which there is none here"
    assert np.median(weaves) > 0.5 > 0.3 > max(share_of_strongest("grain", seed) for seed in range(30))


@pytest.mark.parametrize("kind", ["tiles", "weave"])
def test_a_pattern_may_follow_the_contrast(kind):
    half = np.full((96, 96, 3), 128, np.uint8)
    half[:, 48:] = IMAGE[:, 48:]
    followed = 0
    for seed in range(12):
        changed = np.abs(defects.plant(half, kind, 0.5, np.random.default_rng(seed)).astype(float) - half).mean((0, 2))
        assert changed[64:].mean() > 2
        followed += changed[:24].mean() < 0.1
    assert 2 <= followed <= 10


def test_without_a_choice_of_periods_a_seed_draws_what_it_drew():
    for kind in patterns.LATTICES:
        one, other = (
            draw(np.random.default_rng(9), IMAGE.shape[:2])
            for draw in (defects.KINDS[kind], lambda rng, shape, kind=kind: defects.draw(kind, rng, shape))
        )
        assert np.array_equal(one(IMAGE.astype(np.float32), 0.5), other(IMAGE.astype(np.float32), 0.5))
