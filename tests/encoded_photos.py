"""A photograph in the bytes of image formats, with the colour profiles and EXIF that a test asks for."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms
from skimage import data

PHOTO = np.ascontiguousarray(data.astronaut()[:96, :128])
LIMIT = 10**6  # pixels that a decoded photograph may have


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def swapped_profile():
    """sRGB with the primaries of red and blue exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (tags,) = struct.unpack_from(">I", profile, 128)
    at = {bytes(profile[place : place + 4]): place for place in range(132, 132 + 12 * tags, 12)}
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 4], profile[at[b"bXYZ"] : at[b"bXYZ"] + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def exif_of(*entries):
    """EXIF with the entries (tag, type, count, value) in its first directory, whatever they say."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI4s", *entry) for entry in entries) + bytes(4)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + body


TURNED = (0x0112, 3, 1, struct.pack("<H", 6))
