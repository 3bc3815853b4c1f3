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


def at(position):
    """A photograph's digest at this place in [0, 1)."""
    return f"{int(position * 16**13):013x}" + "0" * 19


@pytest.mark.parametrize(
    ("positions", "moved"),
    [
        ((0.1, 0.5, 0.93, 0.97), {}),
        ((0.1, 0.5, 0.8, 0.97), {"validation": 0.8}),  # 0.97 is nearer to [0.9, 0.95), but alone in its split
        ((0.1, 0.5, 0.96, 0.97), {"validation": 0.96}),
        ((0.91, 0.92, 0.94), {"train": 0.91, "test": 0.94}),
        ((0.1, 0.2, 0.3), {"validation": 0.3, "test": 0.2}),
    ],
)
def test_no_split_with_a_share_stays_empty_and_the_nearest_digest_fills_it(positions, moved):
    ids = [at(position) for position in positions]
    found, told = screen.splits_of(ids, {"train": 0.9, "validation": 0.05, "test": 0.05})
    assert told == {split: at(position) for split, position in moved.items()}
    assert set(found.values()) == {"train", "validation", "test"}
    for photo_id in set(ids) - set(told.values()):
        assert found[photo_id] == screen.split_of(photo_id, {"train": 0.9, "validation": 0.05, "test": 0.05})


def test_splits_without_a_share_stay_empty_and_too_few_photographs_are_an_error():
    shares = {"train": 0.5, "validation": 0.5, "test": 0.0}
    assert set(screen.splits_of([at(0.1), at(0.2)], shares)[0].values()) == {"train", "validation"}
    with pytest.raises(ValueError, match="1 photographs cannot fill 2 splits"):
        screen.splits_of([at(0.1)], shares)


def test_added_photographs_move_none_but_those_that_filled_a_split():
    rng = np.random.default_rng(0)
    shares = {"train": 0.9, "validation": 0.05, "test": 0.05}
    for _ in range(50):
        ids = [at(position) for position in rng.random(24)]
        before, moved = screen.splits_of(ids[:20], shares)
        after, moved_after = screen.splits_of(ids, shares)
        assert set(before.values()) == set(after.values()) == set(shares)
        filled = {*moved.values(), *moved_after.values()}
        assert all(after[one] == split for one, split in before.items() if one not in filled)
