import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from fgr.images import masks

SHAPED = ("polygon", "ellipse", "stroke")
seeds = st.integers(0, 2**32)
shares = st.floats(0.005, 0.9)


def draw(kind, seed, share, feather=(0.0, 0.0), shape=(160, 200), segments=None):
    return masks.draw_mask(kind, np.random.default_rng(seed), *shape, area=(share, share), feather=feather, segments=segments)


def covered(mask):
    return float(mask.mean(dtype=np.float64)) / 255


def cells(height=160, width=200, side=20):
    """Square segments: labels row by row."""
    rows, columns = np.mgrid[:height, :width] // side
    return (rows * (width // side) + columns).astype(np.int32)


@pytest.mark.parametrize("kind", SHAPED)
@settings(max_examples=40)
@given(seed=seeds, share=shares)
def test_a_hard_shape_covers_the_drawn_area(kind, seed, share):
    mask = draw(kind, seed, share)
    assert set(np.unique(mask)) == {0, 255}
    pixels = share * mask.size
    assert abs(np.count_nonzero(mask) - pixels) <= max(masks.AREA_TOLERANCE * pixels, 8)


@pytest.mark.parametrize("kind", SHAPED)
@settings(max_examples=25)
@given(seed=seeds, share=st.floats(0.02, 0.6), sigma=st.floats(0.3, 6.0))
def test_a_feathered_shape_keeps_the_drawn_area(kind, seed, share, sigma):
    assert covered(draw(kind, seed, share, (sigma, sigma))) == pytest.approx(share, rel=masks.AREA_TOLERANCE)


@settings(max_examples=40)
@given(seed=seeds, share=st.floats(0.0126, 0.9))
def test_a_semantic_mask_is_a_union_of_neighbouring_segments_of_the_drawn_area(seed, share):
    segments = cells()
    mask = draw("semantic", seed, share, segments=segments)
    inside = {int(label) for label in np.unique(segments[mask > 0])}
    assert np.array_equal(mask > 0, np.isin(segments, list(inside)))
    assert abs(np.count_nonzero(mask) - share * mask.size) <= 20 * 20 / 2 + 1
    assert cv2.connectedComponents(mask, connectivity=4)[0] == 2


def test_semantic_masks_of_a_photograph_come_close_to_the_drawn_area():
    segments = masks.slic_segments(data.astronaut()[:256, :256])
    largest = np.bincount(segments.ravel()).max() / segments.size
    for seed in range(20):
        share = math.exp(np.random.default_rng(seed).uniform(math.log(0.02), math.log(0.4)))
        assert abs(covered(draw("semantic", seed, share, (3, 3), (256, 256), segments)) - share) <= largest / 2 + 0.01 * share


def test_a_semantic_mask_smaller_than_every_segment_is_the_smallest_segment():
    segments = np.ones((100, 100), np.int32)
    segments[:30, :30] = 7
    assert np.array_equal(draw("semantic", 3, 0.01, shape=(100, 100), segments=segments) > 0, segments == 7)


def test_a_semantic_mask_of_everything_takes_every_segment():
    assert draw("semantic", 3, 1.0, segments=cells()).min() == 255
    assert draw("semantic", 3, 0.3, segments=np.zeros((160, 200), np.int32)).min() == 255


def test_areas_are_drawn_log_uniformly():
    rng = np.random.default_rng(0)
    areas = [covered(masks.draw_mask("ellipse", rng, 64, 64, (0.02, 0.5), (0, 0))) for _ in range(400)]
    logs = (np.log(areas) - math.log(0.02)) / math.log(25)
    assert np.mean(logs) == pytest.approx(0.5, abs=0.05)
    assert np.histogram(logs, 4, (0, 1))[0].min() > 75


def test_shapes_appear_everywhere_in_the_image():
    for kind in SHAPED:
        total = sum(draw(kind, seed, 0.1, shape=(48, 48)).astype(float) for seed in range(300)) / 300 / 255
        blocks = total.reshape(6, 8, 6, 8).mean(axis=(1, 3))
        assert blocks.min() > 0.02, kind
        assert blocks.max() < 0.25, kind


def test_full_is_everywhere():
    assert np.array_equal(draw("full", 0, 0.1, (5, 5)), np.full((160, 200), 255, np.uint8))


def test_sham_has_the_shapes_of_the_others():
    sham = [draw("sham", seed, 0.05) for seed in range(60)]
    extents = [np.count_nonzero(mask) / (lambda box: box[2] * box[3])(cv2.boundingRect(mask)) for mask in sham]
    assert min(extents) < 0.45, "no stroke"
    assert max(extents) > 0.7, "no ellipse"
    assert all(covered(mask) == pytest.approx(0.05, rel=masks.AREA_TOLERANCE) for mask in sham)


@pytest.mark.parametrize("kind", [*SHAPED, "semantic", "full", "sham"])
@settings(max_examples=30)
@given(seed=seeds, height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(1e-6, 1), sigma=st.floats(0, 12))
def test_no_mask_is_empty_however_small_the_image(kind, seed, height, width, share, sigma):
    segments = np.random.default_rng(seed).integers(0, 5, (height, width)).astype(np.int32)
    mask = draw(kind, seed, share, (sigma, sigma), (height, width), segments)
    assert mask.shape == (height, width)
    assert mask.dtype == np.uint8
    assert mask.any()


@pytest.mark.parametrize("kind", [*SHAPED, "semantic", "sham"])
def test_the_same_seed_draws_the_same_mask_whatever_the_threads(kind):
    def drawn(threads, seed):
        cv2.setNumThreads(threads)
        return draw(kind, seed, 0.2, (2, 6), (512, 512), cells(512, 512, 32))

    before = cv2.getNumThreads()
    try:
        for seed in range(4):
            assert np.array_equal(drawn(1, seed), drawn(4, seed))
        assert not np.array_equal(drawn(1, 0), drawn(1, 1))
    finally:
        cv2.setNumThreads(before)


def test_feathering_falls_from_255_to_0_within_three_sigma_and_keeps_the_mean():
    region = np.zeros((120, 120), np.uint8)
    region[40:90, 30:95] = 255
    soft = masks.feathered(region, 4.0)
    depth = cv2.distanceTransform(region, cv2.DIST_C, 3)
    away = cv2.distanceTransform(255 - region, cv2.DIST_C, 3)
    assert (soft[depth > 12] == 255).all()
    assert not soft[away > 12].any()
    assert ((soft > 0) & (soft < 255))[40, 60]
    assert soft[40, 60] == pytest.approx(255 * 0.5 * (1 + math.erf(0.5 / 4 / math.sqrt(2))), abs=2)
    assert covered(soft) == pytest.approx(covered(region), rel=0.002)
    assert (np.diff(soft[65, :62].astype(int)) >= 0).all()


def test_feathering_near_its_region_is_feathering_of_the_whole_image():
    for seed in range(6):
        region = draw("polygon", seed, 0.1)
        whole = cv2.GaussianBlur(region, (31, 31), 5.0, borderType=cv2.BORDER_REFLECT)
        assert np.array_equal(masks.feathered(region, 5.0), whole)


def test_a_region_at_the_border_keeps_its_strength_there():
    region = np.zeros((100, 100), np.uint8)
    region[:, :40] = 255
    soft = masks.feathered(region, 5.0)
    assert (soft[:, 0] == 255).all()
    assert covered(soft) == pytest.approx(0.4, rel=0.002)


def test_no_feather_leaves_the_region_and_a_speck_survives_any():
    region = np.zeros((100, 100), np.uint8)
    region[50, 50] = 255
    assert np.array_equal(masks.feathered(region, 0.0), region)
    assert np.array_equal(masks.feathered(region, 30.0), region)


def test_segments_follow_colours():
    image = np.zeros((300, 300, 3), np.uint8)
    rows, columns = np.mgrid[:300, :300]
    disc = (rows - 140) ** 2 + (columns - 160) ** 2 < 70**2
    image[disc] = (220, 40, 30)
    image[~disc] = (30, 60, 200)
    segments = masks.slic_segments(image)
    assert segments.dtype == np.int32
    assert segments.shape == (300, 300)
    assert 50 < len(np.unique(segments)) < 400
    majority = np.array([np.mean(disc[segments == label]) for label in np.unique(segments)])
    impure = np.minimum(majority, 1 - majority) @ np.bincount(segments.ravel())[np.unique(segments)]
    assert impure < 0.01 * disc.size


def test_segments_are_those_of_scikit_image():
    from skimage.metrics import adapted_rand_error
    from skimage.segmentation import slic

    image = data.astronaut()[100:228, 100:228]
    error = adapted_rand_error(slic(image, n_segments=200, compactness=10, start_label=1), masks.slic_segments(image) + 1)[0]
    assert error < 0.1
    assert np.array_equal(masks.slic_segments(image), masks.slic_segments(image))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (257, 259), (300, 256)])
def test_segments_cover_images_of_any_size_and_one_colour(shape):
    segments = masks.slic_segments(np.zeros((*shape, 3), np.uint8))
    assert segments.shape == shape
    assert segments.min() == 0


@pytest.mark.parametrize(
    ("kind", "segments", "sentence"),
    [
        ("poligon", None, "there is no mask kind 'poligon'; known: polygon, ellipse"),
        ("semantic", None, "a semantic mask needs segments"),
        ("semantic", np.zeros((5, 5), np.int32), r"segments must be integers \(160, 200\), got int32 \(5, 5\)"),
        ("semantic", np.zeros((160, 200), np.float32), r"segments must be integers .* got float32"),
    ],
)
def test_mistakes_are_sentences(kind, segments, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw(kind, 0, 0.1, segments=segments)
