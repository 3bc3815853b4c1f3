import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from fgr.images.photos import PhotoError, decode_photo

PHOTO = np.ascontiguousarray(data.astronaut()[:96, :128])
LIMIT = 10**6


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(format):
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    assert np.array_equal(decode_photo(encoded(PHOTO, format, **options), LIMIT), PHOTO)


def test_jpeg_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° to the right to view
    turned = decode_photo(encoded(PHOTO, "JPEG", quality=100, subsampling=0, exif=exif), LIMIT)
    assert turned.shape == (128, 96, 3)
    assert np.abs(turned.astype(int) - np.rot90(PHOTO, -1)).mean() < 2


def swapped_profile():
    """sRGB with the primaries of red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (tags,) = struct.unpack_from(">I", profile, 128)
    at = {bytes(profile[place : place + 4]): place for place in range(132, 132 + 12 * tags, 12)}
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 4], profile[at[b"bXYZ"] : at[b"bXYZ"] + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def test_a_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = decode_photo(encoded(PHOTO, icc_profile=srgb), LIMIT)
    assert np.abs(same.astype(int) - PHOTO).max() <= 1
    turned = decode_photo(encoded(PHOTO, icc_profile=swapped_profile()), LIMIT)
    assert np.abs(turned.astype(int) - PHOTO[..., ::-1]).max() <= 1
    assert np.array_equal(decode_photo(encoded(PHOTO, icc_profile=b"broken"), LIMIT), PHOTO)


def test_transparency_is_laid_over_white():
    rgba = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
    rgba[0, 0, 3] = 255
    decoded = decode_photo(encoded(rgba), LIMIT)
    assert np.array_equal(decoded[0, 0], PHOTO[0, 0])
    assert (decoded[1:] == 255).all()


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

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


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
