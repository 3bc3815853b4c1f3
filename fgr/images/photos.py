"""Decoding photographs: any file's bytes → upright 8-bit sRGB pixels."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # single-channel modes of more than 8 bits


class PhotoError(Exception):
    """A photograph that cannot be used; `reason` is a short code by which drops are counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode_photo(data: bytes, max_pixels: int) -> np.ndarray:
    """The photograph as uint8 (H, W, 3) sRGB, turned upright by its EXIF orientation.

    ICC profiles are converted to sRGB, transparency is laid over white, 16-bit and grey pictures are brought to 8-bit RGB.
    PhotoError: empty, unreadable, truncated, animated, too_large (checked before any pixel is decoded).
    """
    if not data:
        raise PhotoError("empty", "the file is empty")
    with _quiet(), _opened(data) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise PhotoError("animated", f"it has {getattr(image, 'n_frames', 1)} frames")
        if image.width * image.height > max_pixels:
            raise PhotoError("too_large", f"{image.width}×{image.height} pixels are more than {max_pixels}")
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
            raise PhotoError("truncated", f"its pixels cannot be decoded ({error})") from None
        return np.asarray(_srgb(image))


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd metadata and of large pictures: the first is harmless, the second is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        raise PhotoError("too_large", "its header announces a decompression bomb") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        raise PhotoError("unreadable", "it is not an image that can be read") from None
    with image:
        yield image


def _srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        image = _eight_bit(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    if profile:
        image = _converted(image, profile)
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    deep = image.mode != "I" or values.max() > 255
    return Image.fromarray((values // 257 if deep else values).clip(0, 255).astype(np.uint8))


def _converted(image: Image.Image, profile: bytes) -> Image.Image:
    """Into sRGB; a profile that is broken or made for another kind of picture is passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = image.mode if image.mode in ("RGB", "CMYK", "L") else "RGB"
        converted = ImageCms.profileToProfile(image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image
