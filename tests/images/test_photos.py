import io
import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from fuzz_budget import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data

from fgr.images.photos import PhotoError, decode_photo, over_white

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


def png_with(*chunks):
    """The photograph as PNG with ancillary chunks behind its header."""
    content = encoded(PHOTO)
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return content[:33] + extra + content[33:]


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


def exif_of(*entries):
    """EXIF with the entries (tag, type, count, value) in its first directory, whatever they say."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries) + bytes(4)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + body


TURNED = (0x0112, 3, 1, struct.pack("<H", 6))


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
@settings(max_examples=examples(100), deadline=None)
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


@pytest.mark.fuzz
@settings(max_examples=examples(50), deadline=None)
@given(
    exif=st.binary(max_size=60),
    format=st.sampled_from(["JPEG", "WEBP", "PNG"]),
    order=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
)
def test_any_exif_leaves_the_photograph(exif, format, order):
    image = Image.fromarray(np.ascontiguousarray(PHOTO[:24, :32]))
    decoded = decode_photo(encoded(image, format, exif=b"Exif\0\0" + order + exif), LIMIT)
    assert sorted(decoded.shape) == [3, 24, 32]
