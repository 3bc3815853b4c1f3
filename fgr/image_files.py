"""Image files on the disk: which files are images, the images of a folder, reading one."""

from pathlib import Path

import numpy as np

from fgr.errors import UserError
from fgr.images.photos import PhotoError, decode_photo

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
KNOWN_SUFFIXES = f"Known suffixes: {', '.join(SUFFIXES)}."
MAX_PIXELS = 200_000_000


def is_image(path: Path) -> bool:
    """Whether `path` is a file with an image's suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted."""
    return sorted(file for file in folder.iterdir() if is_image(file))


def images_below(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted."""
    return sorted(file for file in folder.rglob("*") if is_image(file))


def expand(paths: list[Path]) -> list[Path]:
    """Image files, folders replaced by the images in them. UserError for an absent path or a folder without images."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                raise UserError(f"The folder {path} holds no images.", KNOWN_SUFFIXES)
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"The image {path} does not exist.", "Check the path.")
    return found


def read_image(path: Path) -> np.ndarray:
    """The upright uint8 (H, W, 3) sRGB image in a file; grey becomes RGB, 16 bits become 8, transparency is laid over white.

    UserError for what cannot be read and for more than MAX_PIXELS, which are not decoded.
    """
    try:
        return decode_photo(path.read_bytes(), MAX_PIXELS)
    except PhotoError as error:
        raise UserError(f"{path} cannot be read: {error}.", KNOWN_SUFFIXES) from None
