import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data, filters

from fgr.dataset import screen


def textured(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(height=st.integers(10, 200), width=st.integers(10, 200), count=st.integers(1, 20))
def test_crops_never_overlap_and_stay_inside(height, width, count):
    crops, drops = screen.choose_crops(textured(height, width), 32, count, 0, 0)
    assert len(crops) == min(count, (height // 32) * (width // 32))
    assert drops.get("too_small", 0) == (min(height, width) < 32)
    covered = np.zeros((height, width), int)
    for crop in crops:
        covered[crop.top : crop.top + 32, crop.left : crop.left + 32] += 1
    assert covered.max(initial=0) <= 1
    assert covered.sum() == len(crops) * 32 * 32


def test_the_richest_texture_comes_first_and_flat_and_blurred_windows_are_counted():
    image = np.full((64, 192, 3), 128, np.uint8)
    image[:, 64:128] = textured(64, 64) // 8 + 100
    image[:, 128:] = textured(64, 64)
    crops, drops = screen.choose_crops(image, 64, 9, 2.0, 15.0)
    assert [crop.left for crop in crops] == [128, 64]
    assert crops[0].texture > crops[1].texture
    assert drops == {"flat_crop": 1}
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    assert screen.choose_crops(ramp, 64, 9, 2.0, 15.0) == ([], {"blurred_crop": 1})


def test_texture_is_the_gradient_in_steps_a_pixel():
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (64, 1))
    assert screen.texture_of(ramp[:, 2:-2]) == pytest.approx(2, abs=0.1)


def test_hashes_of_pictures_that_look_alike_are_near():
    photo = data.astronaut()
    alike = (filters.gaussian(photo, 1, channel_axis=2) * 255).astype(np.uint8)[2:, 2:]
    hashes = np.array([screen.perceptual_hash(image) for image in (photo, alike, data.coffee(), photo)], np.uint64)
    assert screen.near_duplicates(hashes, 8).tolist() == [False, True, False, True]


def test_near_means_at_most_so_many_bits_from_one_that_stays():
    hashes = np.array([0b0000, 0b0011, 0b1111, 0b0111], np.uint64)
    assert screen.near_duplicates(hashes, 2).tolist() == [False, True, False, True]
    assert screen.near_duplicates(hashes, 0).tolist() == [False] * 4
    assert screen.near_duplicates(np.array([], np.uint64), 4).tolist() == []


def test_a_digest_depends_on_pixels_and_shape():
    image = textured(8, 8)
    other = image.copy()
    other[3, 3, 1] ^= 1
    digests = {screen.pixel_digest(one) for one in (image, other, image.reshape(4, 16, 3))}
    assert len(digests) == 3
    assert screen.pixel_digest(image[:, ::1].copy()) == screen.pixel_digest(image)


def test_splits_follow_their_shares_and_nothing_else():
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}
    splits = [screen.split_of(screen.pixel_digest(textured(2, 2, seed)), shares) for seed in range(3000)]
    for split, share in shares.items():
        assert splits.count(split) / 3000 == pytest.approx(share, abs=0.03)
    assert screen.split_of("f" * 32, {"train": 1.0, "validation": 0.0, "test": 0.0}) == "train"
    assert screen.split_of("0" * 32, {"train": 0.0, "validation": 0.0, "test": 1.0}) == "test"
