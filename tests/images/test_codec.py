import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fgr.images import codec


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@given(seed=st.integers(0, 99), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=25)
def test_rgb_and_mask_round_trip_exactly(seed, height, width):
    image, mask = noise(seed, height, width, 3), noise(seed, height, width)
    assert np.array_equal(codec.decode_rgb(codec.encode_rgb(image)), image)
    assert np.array_equal(codec.decode_mask(codec.encode_mask(mask)), mask)


def test_rgb_is_in_the_order_that_other_readers_see():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert Image.open(io.BytesIO(codec.encode_rgb(red))).convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_map_keeps_twelve_bits_zero_and_one():
    values = np.linspace(0, 1, 5000, dtype=np.float32).reshape(50, 100)
    again = codec.decode_map(codec.encode_map(values))
    assert np.abs(again - values).max() < 1.4e-4
    assert again[0, 0] == 0
    assert again[-1, -1] == 1
    assert np.array_equal(again, codec.quantised(values))
    assert np.array_equal(codec.decode_map(codec.encode_map(again)), again)


def test_map_read_by_another_library_is_value_over_65535():
    values = np.array([[0, 0.25], [0.5, 1]], np.float32)
    words = np.asarray(Image.open(io.BytesIO(codec.encode_map(values))))
    assert words.dtype == np.uint16
    assert np.abs(words / 65535 - values).max() < 1.4e-4


@pytest.mark.parametrize(
    "values", [np.full((2, 2), np.nan, np.float32), np.full((2, 2), 1.01, np.float32), np.zeros((2, 2, 1), np.float32)]
)
def test_map_refuses_what_is_no_map(values):
    with pytest.raises(ValueError, match="map must be"):
        codec.encode_map(values)


def test_bytes_that_are_no_image_or_another_kind_are_refused():
    with pytest.raises(ValueError, match="not an image"):
        codec.decode_rgb(b"nonsense")
    with pytest.raises(ValueError, match="not an image"):
        codec.decode_mask(b"")
    with pytest.raises(ValueError, match="expected uint16"):
        codec.decode_map(codec.encode_mask(noise(0, 4, 4)))
    with pytest.raises(ValueError, match="expected uint8"):
        codec.decode_mask(codec.encode_map(np.zeros((4, 4), np.float32)))


def test_labels_come_back_as_they_were():
    labels = np.array([[0, 1, 2], [65535, 256, 7]], np.int32)
    again = codec.decode_labels(codec.encode_labels(labels))
    assert again.dtype == np.int32
    assert np.array_equal(again, labels)
    for wrong in (labels - 1, labels + 1, labels.astype(np.int64), labels[None]):
        with pytest.raises(ValueError, match="labels must be"):
            codec.encode_labels(wrong)
    with pytest.raises(ValueError, match="expected uint16"):
        codec.decode_labels(codec.encode_mask(np.zeros((2, 2), np.uint8)))


def test_formats_and_sizes_are_checked_before_a_pixel_is_decoded(monkeypatch):
    with pytest.raises(ValueError, match="not an image"):
        codec.decode_rgb(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    other = io.BytesIO()
    Image.fromarray(noise(0, 8, 8, 3)).save(other, "JPEG2000")  # OpenCV would read it
    with pytest.raises(ValueError, match="not an image"):
        codec.decode_rgb(other.getvalue())
    monkeypatch.setattr(codec, "MAX_PIXELS", 63)
    for decode, data in (
        (codec.decode_rgb, codec.encode_rgb(noise(0, 8, 8, 3))),
        (codec.decode_mask, codec.encode_mask(noise(0, 8, 8))),
        (codec.decode_map, codec.encode_map(np.zeros((8, 8), np.float32))),
    ):
        with pytest.raises(ValueError, match="8×8 pixels are more than 63"):
            decode(data)
