"""Photographs of every format and mode become 8-bit RGB, and what cannot has a reason."""

import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from encoded_photos import LIMIT, PHOTO, TURNED, encoded, exif_of, png_chunk, swapped_profile
from fuzz_budget import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fgr.images.photos import PhotoError, decode_photo, over_white


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(format):
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    assert np.array_equal(decode_photo(encoded(PHOTO, format, **options), LIMIT), PHOTO)


def test_transparency_is_laid_over_white():
    rgba = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
    rgba[0, 0, 3] = 255
    decoded = decode_photo(encoded(rgba), LIMIT)
    assert np.array_equal(decoded[0, 0], PHOTO[0, 0])
    assert (decoded[1:] == 255).all()


def test_transparency_is_kept_on_request_where_there_is_some():
    rgba = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    assert np.array_equal(decode_photo(encoded(rgba), LIMIT, transparent=True), PHOTO)
    rgba[0, 0, 3] = 7
    kept = decode_photo(encoded(rgba), LIMIT, transparent=True)
    assert np.array_equal(kept, rgba)
    assert np.array_equal(over_white(kept), decode_photo(encoded(rgba), LIMIT))


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.linspace(0, 65535, 96 * 128).reshape(96, 128).astype(np.uint16)
    decoded = decode_photo(encoded(Image.fromarray(values)), LIMIT)
    assert (decoded[0, 0, 0], decoded[-1, -1, 0]) == (0, 255)
    assert abs(int(decoded[48, 0, 1]) - 128) <= 1
    dark = decode_photo(encoded(Image.fromarray(np.full((8, 8), 200, np.uint16))), LIMIT)
    assert dark.max() == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_colour_keep_the_upper_eight(suffix):
    _, content = cv2.imencode(suffix, PHOTO[..., ::-1].astype(np.uint16) * 257)
    assert np.array_equal(decode_photo(content.tobytes(), LIMIT), PHOTO)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "YCbCr"])
def test_every_other_mode_becomes_rgb(mode):
    image = Image.fromarray(PHOTO).convert(mode)
    format = {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG")
    decoded = decode_photo(encoded(image, format), LIMIT)
    assert decoded.shape == PHOTO.shape
    assert decoded.dtype == np.uint8
    if mode in ("CMYK", "YCbCr"):
        assert np.abs(decoded.astype(int) - PHOTO).mean() < 4


def bomb():
    """A valid PNG header of 30000×30000 pixels with hardly any data behind it."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image", "unreadable"),
        (encoded(PHOTO, "JPEG")[:900], "truncated"),
        (encoded(PHOTO)[:-2000], "truncated"),
        (encoded(Image.fromarray(PHOTO), "WEBP", save_all=True, append_images=[Image.fromarray(255 - PHOTO)]), "animated"),
        (bomb(), "too_large"),
        (encoded(np.zeros((1001, 1000, 3), np.uint8)), "too_large"),
    ],
)
def test_what_cannot_be_used_has_a_reason(content, reason):
    limits = Image.MAX_IMAGE_PIXELS
    with pytest.raises(PhotoError) as error:
        decode_photo(content, LIMIT)
    assert error.value.reason == reason
    assert str(error.value)
    assert limits == Image.MAX_IMAGE_PIXELS


def test_one_pixel_is_a_photograph_too():
    assert decode_photo(encoded(np.full((1, 1, 3), 7, np.uint8)), LIMIT).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("pages", [((64, 48),), ((64, 48), (32, 24))])
def test_the_page_is_taken_and_not_its_thumbnails(pages):
    small = [Image.fromarray(PHOTO).resize(size) for size in pages]
    assert np.array_equal(decode_photo(encoded(PHOTO, "TIFF", save_all=True, append_images=small), LIMIT), PHOTO)
    first = encoded(small[0], "TIFF", save_all=True, append_images=[Image.fromarray(PHOTO), *small[1:]])
    assert np.array_equal(decode_photo(first, LIMIT), PHOTO)
    with pytest.raises(PhotoError, match="2 frames"):
        decode_photo(encoded(PHOTO, "TIFF", save_all=True, append_images=[Image.fromarray(255 - PHOTO)]), LIMIT)


def test_floating_point_pictures_are_0_to_1_or_refused():
    values = np.linspace(0, 1, 96 * 128, dtype=np.float32).reshape(96, 128)
    decoded = decode_photo(encoded(Image.fromarray(values), "TIFF"), LIMIT)
    assert np.array_equal(decoded[..., 0], np.rint(values * 255).astype(np.uint8))
    for bad in (values * 255, values - 0.5, np.full((8, 8), np.nan, np.float32)):
        with pytest.raises(PhotoError, match=r"must be 0 … 1") as caught:
            decode_photo(encoded(Image.fromarray(bad), "TIFF"), LIMIT)
        assert caught.value.reason == "value_range"
    with pytest.raises(PhotoError, match="not 0 … 65535"):
        decode_photo(encoded(Image.fromarray(np.array([[0, 70_000]], np.int32)), "TIFF"), LIMIT)


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000", "BMP", "GIF"])
def test_further_formats_are_read(format):
    options = {"AVIF": {"quality": 100}, "JPEG2000": {"irreversible": False}}.get(format, {})
    image = Image.fromarray(PHOTO).quantize(256) if format == "GIF" else PHOTO
    assert np.abs(decode_photo(encoded(image, format, **options), LIMIT).astype(int) - PHOTO).mean() < 8


def test_postscript_is_no_photograph_whatever_its_name(monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was run"))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\n(x) run\n%%EOF\n"
    with pytest.raises(PhotoError, match="not an image"):
        decode_photo(content, LIMIT)


@pytest.mark.parametrize("kind", [SyntaxError, TypeError, RuntimeError, struct.error, KeyError, RecursionError, MemoryError])
@pytest.mark.parametrize("where", ["open", "load"])
def test_every_class_of_error_is_a_reason(monkeypatch, kind, where):
    def fail(*_, **__):
        raise kind("odd")

    monkeypatch.setattr(Image, "open", fail) if where == "open" else monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(PhotoError) as caught:
        decode_photo(encoded(PHOTO, "JPEG"), LIMIT)
    assert caught.value.reason == {"open": "unreadable", "load": "truncated"}[where]


def small_photographs():
    """Each format with EXIF, a profile and texts where it has them."""
    from PIL.PngImagePlugin import PngInfo

    image = Image.fromarray(np.ascontiguousarray(PHOTO[:24, :32]))
    exif = exif_of(TURNED, (0x010E, 2, 4, b"abc\0"))
    text = PngInfo()
    text.add_text("Comment", "words " * 20, zip=True)
    profile = swapped_profile()
    return [
        encoded(image, "JPEG", exif=exif, icc_profile=profile), encoded(image, "WEBP", exif=exif, icc_profile=profile),
        encoded(image, "PNG", exif=exif, pnginfo=text, icc_profile=profile), encoded(image, "TIFF", icc_profile=profile),
        encoded(image, "AVIF", exif=exif), encoded(image, "JPEG2000"), encoded(image, "BMP"), encoded(image.quantize(16), "GIF"),
    ]  # fmt: skip


SMALL = small_photographs()


@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(
    photo=st.sampled_from(SMALL),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=0, max_size=6)), max_size=6),
    cut=st.floats(0.02, 1),
)
def test_a_mutated_photograph_is_decoded_or_has_a_reason(photo, changes, cut):
    """Bytes are overwritten anywhere, most of them in headers and metadata, and the end may be missing."""
    content = bytearray(photo)
    for place, new in changes:
        start = int(place**3 * len(content))
        content[start : start + len(new)] = new
    with suppress(PhotoError):
        decoded = decode_photo(bytes(content[: int(cut * len(content))]), 10**5)
        assert decoded.dtype == np.uint8
        assert decoded.shape[2] == 3
