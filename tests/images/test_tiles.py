"""Tiles against the untiled output: laws of the layout, exactness, seams, memory."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from fgr.images import tiles


def nearest_twice(images):
    return np.repeat(np.repeat(images, 2, axis=1), 2, axis=2).astype(np.float32) / 255


def blur(radius):
    """A network of scale 1 whose output sees `radius` pixels to each side, and zeros beyond the image's edge."""

    def run(images):
        size = 2 * radius + 1
        return uniform_filter(images.astype(np.float64) / 255, (0, size, size, 0), mode="constant").astype(np.float32)

    return run


@st.composite
def layouts(draw):
    overlap = draw(st.integers(0, 40))
    tile = draw(st.integers(max(2 * overlap, 1), 2 * overlap + 60))
    return draw(st.integers(1, 400)), tile, overlap


@given(layouts())
def test_spans_partition_the_axis_and_keep_margins(layout):
    length, tile, overlap = layout
    spans = tiles.spans(length, tile, overlap)
    weights = np.zeros(length)
    for span in spans:
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        weights[span.keep_start + span.fade_in : span.keep_stop - span.fade_out] += 1
    for left, right in pairwise(spans):
        assert left.stop - right.start >= overlap
        assert left.fade_out == right.fade_in == overlap // 4
        assert right.keep_start == left.keep_stop - left.fade_out
        margin = (overlap - overlap // 4) // 2
        assert left.stop - left.keep_stop >= margin
        assert right.keep_start - right.start >= margin
        weights[right.keep_start : left.keep_stop] += 1
    assert (weights == 1).all()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(300, 128, 16), (2048, 512, 48), (129, 128, 0)])
def test_spans_are_as_few_as_possible(length, tile, overlap):
    number = len(tiles.spans(length, tile, overlap))
    assert number * tile - (number - 1) * overlap >= length
    assert (number - 1) * tile - (number - 2) * overlap < length


@pytest.mark.parametrize(("tile", "overlap"), [(30, 16), (10, -1)])
def test_spans_refuse_tiles_too_small_for_their_overlap(tile, overlap):
    with pytest.raises(ValueError, match="too small"):
        tiles.spans(100, tile, overlap)


@settings(max_examples=40)
@given(layouts(), st.integers(1, 90), st.integers(1, 4))
def test_a_network_that_sees_one_pixel_gives_the_untiled_bytes(layout, height, batch):
    width, tile, overlap = layout
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    whole = tiles.quantised(nearest_twice(image[None]))[0]
    assert np.array_equal(tiles.upscale(image, nearest_twice, 2, tile, overlap, batch), whole)


@pytest.mark.parametrize("radius", [1, 4, 9])
def test_an_overlap_that_covers_the_receptive_field_is_exact_and_a_smaller_one_is_not(radius):
    overlap = next(number for number in range(200) if number - number // 4 >= 2 * radius)
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    whole = tiles.quantised(blur(radius)(image[None]))[0].astype(int)
    tiled = tiles.upscale(image, blur(radius), 1, 2 * overlap + 8, overlap)
    assert np.abs(tiled - whole).max() <= 1
    seamed = tiles.upscale(image, blur(radius), 1, 2 * overlap + 8, overlap // 4)
    assert np.abs(seamed - whole).max() > 1


def test_a_seam_is_a_ramp():
    """Two tiles, one black and one white: the 4 shared pixels in the middle step through 1/8, 3/8, 5/8, 7/8."""
    calls = iter([0.0, 1.0])

    def network(images):
        return np.full((*images.shape[:3], 3), next(calls), np.float32)

    result = tiles.upscale(np.zeros((3, 48, 3), np.uint8), network, 1, 32, 16)
    ramp = np.rint(np.array([1, 3, 5, 7]) / 8 * 255)
    expected = np.concatenate([np.zeros(22), ramp, np.full(22, 255)])
    assert (result == expected[None, :, None]).all()


def test_seams_between_rows_are_ramps_too():
    calls = iter([0.0, 1.0])

    def network(images):
        return np.full((*images.shape[:3], 3), next(calls), np.float32)

    result = tiles.upscale(np.zeros((48, 3, 3), np.uint8), network, 1, 32, 16)
    assert result[:, 0, 0].tolist() == [0] * 22 + [32, 96, 159, 223] + [255] * 22


def test_no_batch_is_larger_than_asked():
    sizes = []

    def network(images):
        sizes.append(len(images))
        return nearest_twice(images)

    tiles.upscale(np.zeros((40, 200, 3), np.uint8), network, 2, 40, 8, batch=4)
    assert sizes == [4, 2]


def test_memory_beyond_the_output_does_not_grow_with_the_height():
    def extra(height):
        image = np.zeros((height, 128, 3), np.uint8)
        tracemalloc.start()
        tiles.upscale(image, nearest_twice, 2, 32, 8)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - 4 * image.size

    assert extra(2048) < 1.1 * extra(256)


def test_quantised_rounds_and_clips():
    values = np.array([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.7], np.float32)
    assert tiles.quantised(values).tolist() == [0, 0, 0, 1, 255, 255]
