"""Decoding photographs: any file's bytes → upright 8-bit sRGB pixels."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

# The only formats that are tried, whatever a file's name says: Pillow itself also knows PostScript, which it gives to a program.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "GIF")  # JPEG: MPO too
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # single-channel modes of more than 8 bits
UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
ORIENTATION = 0x0112
MOST_PAGES = 64  # of a TIFF file that are looked at
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
TEXT_BYTES = 2**19  # of a PNG's texts together, unpacked, that are read; Pillow refuses a text of 1 MiB
PROFILE_BYTES = 2**26  # a colour profile above this is passed over


class PhotoError(Exception):
    """A photograph that cannot be used; `reason` is a short code by which drops are counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode_photo(data: bytes, max_pixels: int, *, transparent: bool = False) -> np.ndarray:
    """The photograph as uint8 (H, W, 3) sRGB, turned upright by its EXIF orientation.

    ICC profiles are converted to sRGB, transparency is laid over white (or kept beside the colours, uint8 (H, W, 4), where
    `transparent` asks for it and a pixel is not opaque), 16-bit, floating-point (0 … 1) and grey pictures are
    brought to 8-bit RGB; of a TIFF file with smaller pages (thumbnails) the largest page is taken. What else the metadata say,
    or do not, has no influence.
    PhotoError, and nothing else: empty, unreadable, truncated, animated, value_range, too_large (checked before any pixel is
    decoded).
    """
    if not data:
        raise PhotoError("empty", "it is empty")
    if data.startswith(PNG_SIGNATURE):
        data, profile = _without_large_metadata(data)
    else:
        profile = None
    with _quiet(), _opened(data) as image:
        _choose_page(image)
        if image.width * image.height > max_pixels:
            raise PhotoError("too_large", f"{image.width}×{image.height} pixels are more than {max_pixels}")
        with _as_photo_error("truncated", "its pixels cannot be decoded"):
            image.load()
        with _as_photo_error("unreadable", "its pixels cannot be brought to RGB"):
            return np.asarray(_srgb(image, profile or image.info.get("icc_profile"), transparent))


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd metadata and of large pictures: the first is harmless, the second is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _as_photo_error(reason: str, what: str) -> Iterator[None]:
    """Decoders raise whatever their authors did not think of: SyntaxError, struct.error, TypeError, RuntimeError …"""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("too_large", "its header announces a decompression bomb") from None
    except Exception as error:
        raise PhotoError(reason, f"{what} ({' '.join(str(error).split())[:120] or type(error).__name__})") from None


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    with _as_photo_error("unreadable", "it is not an image that can be read"):
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise PhotoError("unreadable", "it is not an image that can be read") from None
    with image:
        yield image


def _choose_page(image: Image.Image) -> None:
    """Turn a TIFF file of a page and its thumbnails to the page. PhotoError for pictures in motion and several pages."""
    with _as_photo_error("unreadable", "its pages cannot be counted"):
        frames = int(getattr(image, "n_frames", 1))
        if frames == 1 or image.format == "MPO":
            return
        sizes = _page_sizes(image, min(frames, MOST_PAGES)) if image.format == "TIFF" else []
        largest = max(sizes, default=0)
        if sizes.count(largest) != 1:
            raise PhotoError("animated", f"it has {frames} frames")
        image.seek(sizes.index(largest))


def _page_sizes(image: Image.Image, pages: int) -> list[int]:
    """Pixels of each page, up to the first that cannot be read."""
    sizes = []
    with suppress(Exception):
        for page in range(pages):
            image.seek(page)
            sizes.append(image.width * image.height)
    return sizes


def over_white(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3 or 4) → (H, W, 3), what is transparent laid over white."""
    return pixels if pixels.shape[2] == 3 else np.asarray(_over_white(Image.fromarray(pixels)))


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _srgb(image: Image.Image, profile: bytes | None, transparent: bool) -> Image.Image:
    alpha = None
    turn = UPRIGHT.get(_orientation(image))
    transparency = "transparency" in image.info
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in DEEP or image.mode == "F":
        image = _eight_bit(image)
    if transparency or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        if transparent and image.getchannel("A").getextrema() != (255, 255):
            alpha, image = image.getchannel("A"), image.convert("RGB")
        else:
            image = _over_white(image)
    if profile:
        image = _converted(image, profile)
    image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, or None; the rest of the EXIF may be anything."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # as in _as_photo_error
        return None


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also for NaN
            raise PhotoError("value_range", f"its numbers are {low:g} … {high:g}, floating-point pictures must be 0 … 1")
        return Image.fromarray(np.rint(values * np.float32(255)).astype(np.uint8))
    if low < 0 or high > 65535:
        raise PhotoError("value_range", f"its numbers are {low} … {high}, not 0 … 65535")
    deep = image.mode != "I" or high > 255
    return Image.fromarray((values.astype(np.int64) // 257 if deep else values).astype(np.uint8))


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Into sRGB; a profile that is broken or made for another kind of picture is passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = image.mode if image.mode in ("RGB", "CMYK", "L") else "RGB"
        converted = ImageCms.profileToProfile(image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted or image


def _without_large_metadata(data: bytes) -> tuple[bytes, bytes | None]:
    """A PNG without the texts and the profile that Pillow would refuse it for, and that profile."""
    kept, profile, room, start = [PNG_SIGNATURE], None, TEXT_BYTES, len(PNG_SIGNATURE)
    for kind, body, end in _png_chunks(data):
        drop = False
        if kind in PNG_TEXTS:
            size = _unpacked_size(kind, body)
            drop = size > room
            room -= 0 if drop else size
        elif kind == b"iCCP":
            found = _inflated(body[body.find(b"\0") + 2 :], PROFILE_BYTES + 1)
            drop = len(found) > TEXT_BYTES
            profile = found if drop and len(found) <= PROFILE_BYTES else profile
        if not drop:
            kept.append(data[start:end])
        start = end
    return b"".join([*kept, data[start:]]), profile


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Kind, body and end of each whole chunk."""
    place = len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        kind = data[place + 4 : place + 8]
        yield kind, data[place + 8 : end - 4] if kind in (*PNG_TEXTS, b"iCCP") else b"", end
        place = end


def _unpacked_size(kind: bytes, body: bytes) -> int:
    if kind == b"tEXt":
        return len(body)
    keyword = body.find(b"\0")
    if kind == b"zTXt":
        return len(_inflated(body[keyword + 2 :], TEXT_BYTES + 1))
    packed = body[keyword + 1 : keyword + 2] == b"\1"
    text = body[keyword + 3 :].split(b"\0", 2)[-1]
    return len(_inflated(text, TEXT_BYTES + 1)) if packed else len(text)


def _inflated(packed: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""
