"""How a dataset's images are encoded: RGB as lossless WebP, masks and maps as grey PNG.

Masks are 8-bit PNG, maps 16-bit.
WebP's quickest lossless setting takes a third of the time of the next one for 4 % more bytes.
Every encoding is exact but the map's, which keeps 12 bits (error ≤ 1.4e-4, zero stays exactly zero).
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image

MAP_LEVELS = 4095
MAP_ERROR = 1.4e-4  # the most by which a stored map differs from what was stored
FORMATS = ("PNG", "WEBP", "JPEG", "BMP", "TIFF")  # what an image column may be encoded in
MAX_PIXELS = 2**26  # of an image in a column: 8192×8192, far more than a crop has


def encode_rgb(image: np.ndarray) -> bytes:
    """Lossless WebP of a uint8 (H, W, 3) RGB image."""
    _expect(image, np.uint8, 3)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=0, quality=0, exact=True)
    return buffer.getvalue()


def decode_rgb(data: bytes) -> np.ndarray:
    """The uint8 (H, W, 3) RGB image in any 8-bit encoding that OpenCV reads; ValueError if there is none."""
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)


def is_lossy(data: bytes) -> bool:
    """Whether an encoded image is JPEG or WebP with losses: no dataset is written so, but copies of its images may be."""
    return data[:3] == b"\xff\xd8\xff" or (data[:4] == b"RIFF" and data[8:12] == b"WEBP" and b"VP8 " in data[12:64])


def encode_mask(mask: np.ndarray) -> bytes:
    """8-bit grey PNG of a uint8 (H, W) mask or map."""
    _expect(mask, np.uint8, 2)
    return _png(mask)


def decode_mask(data: bytes) -> np.ndarray:
    """The uint8 (H, W) mask in an 8-bit grey PNG; ValueError for anything else."""
    mask = _decode(data, cv2.IMREAD_UNCHANGED)
    _expect(mask, np.uint8, 2)
    return mask


def quantised(values: np.ndarray) -> np.ndarray:
    """A float32 (H, W) map in [0, 1] as it comes back from the disk: 12 bits, the low bits filled."""
    return _words(values).astype(np.float32) / np.float32(65535)


def encode_map(values: np.ndarray) -> bytes:
    """16-bit grey PNG of a float32 (H, W) map in [0, 1], rounded to 12 bits; value / 65535 gives it back."""
    if values.ndim != 2 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError("a map must be (H, W) with finite values in [0, 1]")
    return _png(_words(values))


def decode_map(data: bytes) -> np.ndarray:
    """The float32 (H, W) map in [0, 1] of a 16-bit grey PNG; ValueError for anything else."""
    return decode_words(data).astype(np.float32) / np.float32(65535)


def decode_words(data: bytes) -> np.ndarray:
    """The uint16 (H, W) values in a 16-bit grey PNG, as they are stored; ValueError for anything else."""
    words = _decode(data, cv2.IMREAD_UNCHANGED)
    _expect(words, np.uint16, 2)
    return words


def encode_labels(labels: np.ndarray) -> bytes:
    """16-bit grey PNG of int32 (H, W) labels; ValueError unless they are in 0…65535."""
    if labels.ndim != 2 or labels.dtype != np.int32 or labels.min() < 0 or labels.max() > 65535:
        raise ValueError("labels must be int32 (H, W) with values in 0…65535")
    return _png(labels.astype(np.uint16))


def decode_labels(data: bytes) -> np.ndarray:
    """The int32 (H, W) labels in a 16-bit grey PNG; ValueError for anything else."""
    return decode_words(data).astype(np.int32)


def _words(values: np.ndarray) -> np.ndarray:
    levels = np.rint(values * MAP_LEVELS).astype(np.uint16)
    return (levels << 4) | (levels >> 8)


def _png(pixels: np.ndarray) -> bytes:
    written, data = cv2.imencode(".png", pixels)
    if not written:
        raise ValueError("OpenCV could not encode a PNG")
    return data.tobytes()


def _decode(data: bytes, flags: int) -> np.ndarray:
    width, height = _size(data)
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels are more than {MAX_PIXELS}")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("these bytes are not an image")
    return pixels


def _size(data: bytes) -> tuple[int, int]:
    """Width and height as the header says them: nothing is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
        except Image.DecompressionBombError:
            raise ValueError(f"its header announces more than {MAX_PIXELS} pixels") from None
        except Exception:  # a damaged header raises errors of every class
            raise ValueError("these bytes are not an image") from None


def _expect(pixels: np.ndarray, dtype: type, dimensions: int) -> None:
    if pixels.dtype != dtype or pixels.ndim != dimensions or (dimensions == 3 and pixels.shape[2] != 3):
        shape = "(H, W, 3)" if dimensions == 3 else "(H, W)"
        raise ValueError(f"expected {np.dtype(dtype).name} {shape}, got {pixels.dtype} {pixels.shape}")
