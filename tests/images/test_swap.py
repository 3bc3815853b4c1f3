import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fgr.images import swap

IMAGE, MASK = (4, 5, 3), (4, 5)


@given(arrays(np.uint8, IMAGE), arrays(np.uint8, IMAGE), arrays(np.uint8, MASK))
def test_a_composite_is_the_integer_formula(sr, reference, mask):
    m = mask[..., None].astype(int)
    assert np.array_equal(swap.composite(sr, reference, mask), (m * sr + (255 - m) * reference + 127) // 255)


def test_every_value_of_the_formula_is_met():
    sr, reference = (side.astype(np.uint8) for side in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
    pair = [np.dstack([side] * 3) for side in (sr, reference)]
    for m in range(256):
        made = swap.composite(*pair, np.full((256, 256), m, np.uint8))
        expected = (m * sr.astype(int) + (255 - m) * reference.astype(int) + 127) // 255
        assert np.array_equal(made, np.dstack([expected] * 3))


def test_worked_by_hand():
    sr, reference = np.full((1, 4, 3), 200, np.uint8), np.full((1, 4, 3), 100, np.uint8)
    made = swap.composite(sr, reference, np.array([[0, 51, 128, 255]], np.uint8))
    assert made[0, :, 0].tolist() == [100, 120, 150, 200]  # 100 + 100·m/255 = 100, 120, 150.2, 200


def test_the_ends_are_exact():
    rng = np.random.default_rng(0)
    sr, reference = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mask = rng.choice(np.array([0, 255], np.uint8), (64, 64))
    made = swap.composite(sr, reference, mask)
    assert np.array_equal(made[mask == 0], reference[mask == 0])
    assert np.array_equal(made[mask == 255], sr[mask == 255])


@given(arrays(np.uint8, IMAGE), arrays(np.uint8, MASK))
def test_pasting_an_image_onto_itself_changes_nothing(image, mask):
    assert np.array_equal(swap.composite(image, image, mask), image)


@given(arrays(np.uint8, IMAGE), st.integers(0, 6))
def test_a_sham_is_the_reference_moved_diagonally(image, shift):
    moved = swap.sham_source(image, shift)
    rows, columns = (np.maximum(np.arange(length) - shift, 0) for length in MASK)
    assert np.array_equal(moved, image[np.ix_(rows, columns)])


def test_neither_writes_into_its_input():
    image = np.zeros((8, 8, 3), np.uint8)
    swap.sham_source(image, 0)[:] = 9
    swap.composite(image, image, np.zeros((8, 8), np.uint8))[:] = 9
    assert not image.any()


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    sr, reference = rng.integers(0, 256, (2, 512, 512, 3), dtype=np.uint8)
    mask = rng.integers(0, 256, (512, 512), dtype=np.uint8)
    before = cv2.getNumThreads()
    try:
        made = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            made.append(swap.composite(sr, reference, mask))
        assert np.array_equal(*made)
    finally:
        cv2.setNumThreads(before)


GOOD, PLANE = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((GOOD[:3], GOOD, PLANE), r"sr is \(3, 5, 3\), but reference is \(4, 5, 3\)"),
        ((GOOD.astype(np.float32), GOOD, PLANE), r"sr must be uint8 \(H, W, 3\), got float32"),
        ((GOOD, PLANE, PLANE), r"reference must be uint8 \(H, W, 3\), got uint8 \(4, 5\)"),
        ((GOOD, GOOD, PLANE[:3]), r"mask must be uint8 \(4, 5\), got uint8 \(3, 5\)"),
        ((GOOD, GOOD, PLANE.astype(bool)), r"mask must be uint8 \(4, 5\), got bool"),
    ],
)
def test_mistakes_in_a_composite_are_sentences(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        swap.composite(*arguments)


def test_mistakes_in_a_sham_are_sentences():
    with pytest.raises(ValueError, match="shift must be 0 or more, got -1"):
        swap.sham_source(GOOD, -1)
    with pytest.raises(ValueError, match=r"reference must be uint8 \(H, W, 3\)"):
        swap.sham_source(PLANE, 1)
