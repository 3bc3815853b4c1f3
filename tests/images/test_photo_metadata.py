"""What a photograph's metadata say of its pixels: colour profiles, EXIF orientation; and what else they say has no influence."""

import struct
import zlib

import numpy as np
import pytest
from encoded_photos import LIMIT, PHOTO, TURNED, encoded, exif_of, png_chunk, swapped_profile
from fuzz_budget import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fgr.images.photos import decode_photo


def test_jpeg_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° to the right to view
    turned = decode_photo(encoded(PHOTO, "JPEG", quality=100, subsampling=0, exif=exif), LIMIT)
    assert turned.shape == (128, 96, 3)
    assert np.abs(turned.astype(int) - np.rot90(PHOTO, -1)).mean() < 2


def test_a_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = decode_photo(encoded(PHOTO, icc_profile=srgb), LIMIT)
    assert np.abs(same.astype(int) - PHOTO).max() <= 1
    turned = decode_photo(encoded(PHOTO, icc_profile=swapped_profile()), LIMIT)
    assert np.abs(turned.astype(int) - PHOTO[..., ::-1]).max() <= 1
    assert np.array_equal(decode_photo(encoded(PHOTO, icc_profile=b"broken"), LIMIT), PHOTO)


def png_with(*chunks):
    """The photograph as PNG with ancillary chunks behind its header."""
    content = encoded(PHOTO)
    return content[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + content[33:]


def large_profile():
    """`swapped_profile` padded to 3 MB, as tables of printers are."""
    profile = bytearray(swapped_profile() + bytes(3 * 2**20))
    struct.pack_into(">I", profile, 0, len(profile))
    return bytes(profile)


TEXTS = {
    "tEXt": (b"tEXt", b"Comment\0" + b"x" * 3 * 2**20),
    "zTXt": (b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3 * 2**20)),
    "iTXt": (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 3 * 2**20)),
    "iTXt, plain": (b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 3 * 2**20),
    "a bomb": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26))),
    "not compressed": (b"zTXt", b"Comment\0\0nonsense"),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_photograph_with_long_texts_is_a_good_photograph(text):
    assert np.array_equal(decode_photo(png_with(TEXTS[text]), LIMIT), PHOTO)
    many = [(b"tEXt", b"Comment\0" + b"x" * 2**17)] * 6
    assert np.array_equal(decode_photo(png_with(*many, TEXTS[text]), LIMIT), PHOTO)


def test_a_profile_of_any_size_is_converted():
    chunk = (b"iCCP", b"large\0\0" + zlib.compress(large_profile()))
    assert np.abs(decode_photo(png_with(chunk), LIMIT).astype(int) - PHOTO[..., ::-1]).max() <= 1
    jpeg = decode_photo(encoded(PHOTO, "JPEG", quality=100, subsampling=0, icc_profile=large_profile()), LIMIT)
    assert np.abs(jpeg.astype(int) - PHOTO[..., ::-1]).mean() < 2
    bomb_of_a_profile = (b"iCCP", b"bomb\0\0" + zlib.compress(bytes(2**26 + 1)))
    assert np.array_equal(decode_photo(png_with(bomb_of_a_profile), LIMIT), PHOTO)


@pytest.mark.parametrize(
    "entry",
    [
        (0x829A, 5, 1, struct.pack("<I", 9**9)),  # a fraction beyond the end
        (0x8769, 4, 1, struct.pack("<I", 2**31)),  # a directory beyond the end
        (0x0132, 2, 2**30, b"\0\0\0\0"),  # a text longer than the file
        (0x0112, 99, 1, b"\0\0\0\0"),  # a type that does not exist
        (0x8965, 8, 1, struct.pack("<hh", -7, 0)),  # a negative number, which Pillow cannot write again
        (0x0101, 9, 1, struct.pack("<i", -1)),
        (0x010E, 2, 4, b"\xff\xfe\xfd\0"),  # no text in any encoding
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_the_orientation_is_taken_whatever_else_the_exif_says(entry, format):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}.get(format, {})
    if format == "TIFF":
        exif = Image.Exif()
        exif[0x0112], exif[0x829A] = 6, -1.5
        turned = decode_photo(encoded(PHOTO, format, exif=exif), LIMIT)
    else:
        turned = decode_photo(encoded(PHOTO, format, exif=exif_of(TURNED, entry), **options), LIMIT)
    assert turned.shape == (128, 96, 3)
    assert np.abs(turned.astype(int) - np.rot90(PHOTO, -1)).mean() < 2


@pytest.mark.fuzz
@settings(max_examples=examples(50))
@given(
    exif=st.binary(max_size=60),
    format=st.sampled_from(["JPEG", "WEBP", "PNG"]),
    order=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_any_exif_leaves_the_photograph(exif, format, order):
    image = Image.fromarray(np.ascontiguousarray(PHOTO[:24, :32]))
    decoded = decode_photo(encoded(image, format, exif=b"Exif\0\0" + order + exif), LIMIT)
    assert sorted(decoded.shape) == [3, 24, 32]
