from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgr.generate import samples
from fgr.images import difference
from fgr.recipe.generate import GenerateRecipe, Kinds
from fgr.records import MASK_KINDS


@given(total=st.integers(1, 500), train=st.integers(0, 300), validation=st.integers(0, 50), test=st.integers(1, 50))
def test_allotted_samples_add_up_and_leave_no_split_empty(total, train, validation, test):
    references = {"train": train, "validation": validation, "test": test}
    shares = samples.allot(total, references)
    assert sum(shares.values()) == total
    assert all(references[split] for split in shares)
    if total >= 3:
        assert set(shares) == {split for split, number in references.items() if number}
    assert min(shares.values()) >= 1


def test_allotted_samples_follow_the_references():
    assert samples.allot(100, {"train": 80, "validation": 15, "test": 5}) == {"train": 80, "validation": 15, "test": 5}
    assert samples.allot(10, {"train": 100, "validation": 1, "test": 1}) == {"train": 8, "validation": 1, "test": 1}


def test_candidates_take_every_reference_with_every_model_before_a_second_degradation():
    found = samples.candidates(["a", "b"], ["m", "n"], 1, 6)
    assert [(one.source_id, one.model, one.round) for one in found] == [
        ("a", "m", 0), ("a", "n", 0), ("b", "m", 0), ("b", "n", 0), ("a", "m", 1), ("a", "n", 1),
    ]  # fmt: skip


def test_seeds_depend_on_every_part_and_fit_the_column():
    seeds = {samples.seed_of(0, "a", 0), samples.seed_of(1, "a", 0), samples.seed_of(0, "b", 0), samples.seed_of(0, "a", 1)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert samples.seed_of("ab", "c") != samples.seed_of("a", "bc")


NONE = dict.fromkeys(MASK_KINDS, 0.0)


def test_mask_kinds_are_drawn_by_weight():
    kinds = Kinds(**NONE | {"polygon": 3.0, "sham": 1.0})
    drawn = Counter(samples.mask_kind(seed, kinds) for seed in range(4000))
    assert drawn["full"] == 0
    assert drawn["polygon"] / drawn["sham"] == pytest.approx(3, rel=0.15)


def pair(strength=40):
    rng = np.random.default_rng(0)
    reference = rng.integers(60, 180, (96, 96, 3), dtype=np.uint8)
    sr = (reference + rng.integers(-strength, strength + 1, reference.shape)).astype(np.uint8)
    pixel, feature = difference.pixel_difference(reference, sr), difference.gradient_difference(reference, sr)
    return samples.Pair(reference, sr, pixel, feature, difference.combined(pixel, feature, 0.5, 2.0))


def made(seed, of=None, kind="ellipse", sham_shift=1, severity=(0.0, 1.0)):
    """A sample of one kind of mask."""
    masks = {"kinds": NONE | {kind: 1.0}, "area": (0.05, 0.3), "feather": (1.0, 3.0), "sham_shift": sham_shift}
    recipe = GenerateRecipe(name="test", models=("bicubic",), masks=masks, severity=severity, attempts=3)
    return samples.make_sample(of or pair(), seed, recipe, map_scale=4.0)


def test_a_sample_is_the_reference_outside_its_mask():
    sample = made(5)
    outside = sample.mask == 0
    assert np.array_equal(sample.composite[outside], pair().reference[outside])
    assert not sample.degradation_map[outside].any()
    assert sample.degradation_map[sample.mask == 255].min() > 0
    assert sample.score == pytest.approx(1 - np.sqrt(np.mean(sample.degradation_map.astype(np.float64) ** 2)), abs=1e-6)
    assert sample.pixel_difference == pytest.approx(pair().pixel[~outside].mean(), rel=1e-5)


def test_the_same_seed_makes_the_same_sample_and_another_seed_another():
    first, again, other = (made(seed) for seed in (5, 5, 6))
    assert np.array_equal(first.mask, again.mask)
    assert np.array_equal(first.composite, again.composite)
    assert not np.array_equal(first.mask, other.mask)


def test_a_sham_is_clean_by_label_but_moved_by_a_pixel():
    sham = made(5, kind="sham", severity=(0.5, 1.0))
    assert sham.mask_kind == "sham"
    assert not sham.degradation_map.any()
    assert (sham.score, sham.pixel_difference, sham.feature_difference) == (1, 0, 0)
    assert (sham.composite != pair().reference).any()
    still = made(5, kind="sham", sham_shift=0)
    assert np.array_equal(still.composite, pair().reference)


def test_a_full_sample_is_the_restored_image():
    full = made(5, kind="full")
    assert np.array_equal(full.composite, pair().sr)
    assert full.mask.min() == 255


def test_severities_out_of_range_are_dropped():
    assert made(5, pair(strength=1), severity=(0.5, 1.0)) is None
    assert made(5, severity=(0.0, 0.01)) is None
