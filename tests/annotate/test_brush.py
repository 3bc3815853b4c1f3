"""The brush codec against the SDK's own, and against malformed codes."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter import brush as sdk

from fgr.annotate import brush
from fgr.annotate.brush import BrushError

VECTORS = [
    ([[255]], [0, 0, 0, 4, 57, 27, 252, 127, 224]),
    ([[0, 255]], [0, 0, 0, 8, 57, 27, 252, 96, 17, 255, 128]),
    (np.zeros((8, 8)), [0, 0, 1, 0, 57, 27, 254, 255, 0, 0]),
]
SHAPES = [(1, 1), (1, 7), (1, 70_000), (9, 1), (64, 48), (300, 301)]


def masks(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    one = np.zeros((height, width), np.uint8)
    one[-1, -1] = 255
    blocks = np.kron(rng.integers(0, 2, (height // 8 + 1, width // 8 + 1)) * 255, np.ones((8, 8)))[:height, :width].astype(
        np.uint8
    )
    few = np.zeros(height * width, np.uint8)
    for start, value in zip(rng.integers(0, few.size, 4).tolist(), (255, 255, 7, 0), strict=True):
        few[start : start + few.size // 5 + 1] = value
    stripes = np.resize(np.array([0, 0, 255, 255, 255, 0, 0, 0], np.uint8), height * width)  # all eights alike, none plain
    return {
        "few": few.reshape(height, width),
        "stripes": stripes.reshape(height, width),
        "empty": np.zeros((height, width), np.uint8),
        "full": np.full((height, width), 255, np.uint8),
        "one": one,
        "speckle": ((rng.random((height, width)) < 0.03) * 255).astype(np.uint8),
        "blocks": blocks,
        "soft": rng.integers(0, 256, (height, width)).astype(np.uint8),
    }


@pytest.mark.parametrize(("mask", "code"), VECTORS)
def test_known_vectors(mask, code):
    mask = np.array(mask, np.uint8)
    assert brush.encode(mask) == code
    assert np.array_equal(brush.decode(code, *mask.shape), mask)


@pytest.mark.parametrize("shape", SHAPES)
def test_encodes_bit_for_bit_like_the_sdk_and_decodes_what_it_wrote(shape):
    for name, mask in masks(*shape).items():
        code = sdk.mask2rle(mask)
        assert brush.encode(mask) == code, name
        assert np.array_equal(brush.decode(code, *shape), mask), name


def test_long_runs_are_cut_like_the_sdk_cuts_them():
    for pixels in (16_384, 16_385, 32_768, 32_769, 100_000):
        mask = np.full((1, pixels), 7, np.uint8)
        assert brush.encode(mask) == sdk.mask2rle(mask)


@settings(max_examples=60)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.sampled_from([0, 1, 128, 255])))
def test_round_trip(mask):
    assert np.array_equal(brush.decode(brush.encode(mask), *mask.shape), mask)


def literal_code(values, per_token=5):
    """A code of literal tokens alone: other writers use them, the SDK reads them."""
    bits = f"{len(values):032b}" + "00111" + "0010001101111111"
    for start in range(0, len(values), per_token):
        part = values[start : start + per_token]
        bits += "0" + "00" + f"{len(part) - 1:03b}" + "".join(f"{value:08b}" for value in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_reads_literal_tokens():
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, 6 * 7 * 4).tolist()
    code = literal_code(values)
    expected = sdk.decode_rle(code).reshape(6, 7, 4)[..., 3]
    assert np.array_equal(brush.decode(code, 6, 7), expected)


def test_reads_channels_that_differ_across_runs():
    bits = f"{8:032b}" + "00111" + "0010001101111111"  # two pixels: runs of 3 × 10 and 5 × 200, so alpha is 200 and 200
    bits += "1" + "00" + "010" + f"{10:08b}" + "1" + "00" + "100" + f"{200:08b}"
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush.decode(code, 1, 2).tolist() == [[200, 200]]
    assert sdk.decode_rle(code).reshape(1, 2, 4)[..., 3].tolist() == [[200, 200]]


def test_blocks_join_without_a_seam(monkeypatch):
    mask = masks(300, 301)["soft"]
    code = sdk.mask2rle(mask)
    for block in (16, 1000, 4096):
        monkeypatch.setattr(brush, "BLOCK", block)
        assert np.array_equal(brush.decode(code, 300, 301), mask)
    values = mask[:40, :41].repeat(4).tolist()
    monkeypatch.setattr(brush, "BLOCK", 64)
    assert np.array_equal(brush.decode(literal_code(values, 8), 40, 41), mask[:40, :41])


GOOD = brush.encode(masks(64, 48)["blocks"])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ([], "too short"),
        ([0, 0, 1], "too short"),
        ("AAAA", "too short"),
        (7, "too short"),
        ([*GOOD[:20], 256, *GOOD[21:]], "0 to 255"),
        ([*GOOD[:20], -1, *GOOD[21:]], "0 to 255"),
        ([*GOOD[:20], 1.5, *GOOD[21:]], "0 to 255"),
        ([*GOOD[:20], None], "0 to 255"),
        ([255, 255, 255, 255, *GOOD[4:]], "4294967295 values"),
        ([*GOOD[:4], 0, *GOOD[5:]], "1-bit values"),
        (GOOD[:-6], "ends before"),
        (GOOD[:12], "ends before"),
        ([*GOOD, 0, 0, 0, 0, 0, 0, 0, 0, 0], "goes on after"),
        ([*GOOD, 9], "goes on after"),
    ],
)
def test_malformed_codes_are_refused(code, says):
    with pytest.raises(BrushError, match=says):
        brush.decode(code, 64, 48)


def test_swapped_sides_pass_only_the_count_and_other_sizes_are_refused():
    with pytest.raises(BrushError, match="12288 values where the image needs 12544"):
        brush.decode(GOOD, 64, 49)


def test_a_run_past_the_end_is_refused():
    code = brush.encode(np.full((1, 9), 255, np.uint8))
    code[3] -= 4  # claims eight pixels where the run is nine long
    with pytest.raises(BrushError, match="past the end"):
        brush.decode(code, 1, 8)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_garbage_is_a_mask_or_an_error(body):
    code = [*GOOD[:7], *body]
    with contextlib.suppress(BrushError):
        assert brush.decode(code, 64, 48).shape == (64, 48)


@pytest.mark.parametrize("mask", [np.zeros((0, 4), np.uint8), np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8)])
def test_encode_wants_a_grey_mask(mask):
    with pytest.raises(ValueError, match="uint8"):
        brush.encode(mask)
