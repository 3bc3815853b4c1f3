"""Image files on the disk: the images of a folder and what was left out of it, reading one."""

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fgr.errors import UserError, notice
from fgr.images.photos import PhotoError, decode_photo

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jp2", ".j2k")
KNOWN_SUFFIXES = f"Known suffixes: {', '.join(SUFFIXES)}."
MAX_PIXELS = 200_000_000
MAX_BYTES = 2**31  # of a file
SYSTEM_FOLDERS = ("@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information")
LEFT_OUT = {  # reason → what it says of so many files
    "hidden": "hidden, or in a hidden or system folder",
    "other_suffix": "without an image's suffix",
    "no_regular_file": "no regular file (a pipe, device or socket)",
    "broken_link": "links that lead nowhere",
    "seen_before": "links to a folder that was read already",
    "no_permission": "folders without permission to read them",
}


class ImageFileError(UserError):
    """An image file that cannot be used: a work on many files may go on without it. `reason` is a short code."""

    def __init__(self, message: str, hint: str | None = None, reason: str = "unreadable") -> None:
        super().__init__(message, hint)
        self.reason = reason


@dataclass(slots=True)
class Listing:
    """The image files of a folder, sorted; `left_out` counts the others by reason, `examples` names one of each reason."""

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Path] = field(default_factory=dict)

    def leave_out(self, reason: str, path: Path) -> None:
        """Count a file."""
        self.left_out[reason] += 1
        self.examples.setdefault(reason, path)

    def sentence(self) -> str:
        """What was left out, in words; empty if nothing was."""
        return in_words(self.left_out)

    def note(self, folder: Path) -> str:
        """A sentence for the user on what was left out of `folder`, with an example of each reason; empty if nothing was."""
        if not self.left_out:
            return ""
        examples = ", ".join(str(self.examples[reason]) for reason in sorted(self.left_out))
        return f"{folder}: left out {self.sentence()}; for example {examples}."


def in_words(left_out: Mapping[str, int]) -> str:
    """Counts by the reasons of LEFT_OUT as a part of a sentence."""
    return "; ".join(f"{count} {LEFT_OUT[reason]}" for reason, count in sorted(left_out.items()) if reason in LEFT_OUT)


def list_images(folder: Path, *, deep: bool = True, known: Collection[Path] = ()) -> Listing:
    """The image files in a folder and, where `deep`, in its subfolders; links are followed, each folder is read once.

    Left out and counted: hidden files, all in hidden folders and in those that systems make (`@eaDir`, `__MACOSX`, trash), other
    suffixes, what is no regular file, links that lead nowhere or to a folder that was read already. `known` files are neither
    images nor left out.
    """
    found = Listing()
    links: list[Path] = []
    hidden: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting or links:  # folders before links to folders: what is listed does not depend on where a link stands
        place = waiting.pop() if waiting else links.pop(0)
        if not _is_new(place, seen):
            found.leave_out("seen_before", place)
            continue
        for path in _entries(place, found, known):
            if _is_folder(path):
                if _is_hidden(path):
                    hidden.append(path)
                elif deep:
                    (links if path.is_symlink() else waiting).append(path)
            elif reason := _reason_to_leave_out(path):
                found.leave_out(reason, path)
            else:
                found.files.append(path)
    _count_hidden(hidden, found, seen)  # at last: a link may have led into one
    found.files.sort()
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted."""
    return list_images(folder, deep=False).files


def images_below(folder: Path, announce: bool = False) -> list[Path]:
    """The image files in a folder and its subfolders, sorted; where `announce`, the user is told what was left out."""
    found = list_images(folder)
    if announce and (note := found.note(folder)):
        notice(note)
    return found.files


def expand(paths: list[Path]) -> tuple[list[Path], Counter[str]]:
    """Image files, folders replaced by the images in them, and counts of what was left out of the folders.

    UserError for an absent path or a folder without images.
    """
    found: list[Path] = []
    left_out: Counter[str] = Counter()
    for path in paths:
        if path.is_dir():
            inside = list_images(path, deep=False)
            left_out += inside.left_out
            if not inside.files:
                raise UserError(f"The folder {path} holds no images{_besides(inside)}.", KNOWN_SUFFIXES)
            found += inside.files
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"The image {path} does not exist.", "Check the path.")
    return found, left_out


def read_file(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; nothing else is opened. ImageFileError, also for more than `most` bytes."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageFileError(f"{path} is not a regular file.", "Give image files.", "no_regular_file")
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise ImageFileError(f"{path} has {size} bytes, more than {most}.", "Give a smaller file.", "too_large")
            return file.read()
    except OSError as error:
        raise ImageFileError(f"{path} cannot be read: {error.strerror or error}.", "Check the file.") from None


def read_image(path: Path, max_pixels: int = MAX_PIXELS, *, transparent: bool = False) -> np.ndarray:
    """The upright uint8 (H, W, 3) sRGB image in a file; grey becomes RGB, 16 bits become 8, transparency is laid over white.

    Where `transparent` asks for it an image that is not opaque everywhere comes as (H, W, 4).

    ImageFileError for what cannot be read and for more than `max_pixels`, which are not decoded.
    """
    try:
        return decode_photo(read_file(path), max_pixels, transparent=transparent)
    except PhotoError as error:
        raise ImageFileError(f"{path} cannot be read: {error}.", KNOWN_SUFFIXES, error.reason) from None


def _entries(folder: Path, found: Listing, known: Collection[Path]) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        found.leave_out("no_permission", folder)
        return
    yield from (path for name in names if (path := folder / name) not in known)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in SYSTEM_FOLDERS


def _reason_to_leave_out(path: Path) -> str | None:
    if _is_hidden(path):
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return "other_suffix"
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else "no_regular_file"
    except OSError:
        return "broken_link"


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder is met for the first time, by whatever name; from then on it has been `seen`."""
    status = folder.stat()
    key = (status.st_dev, status.st_ino)
    new = key not in seen
    seen.add(key)
    return new


def _count_hidden(folders: list[Path], found: Listing, seen: set[tuple[int, int]]) -> None:
    for folder in folders:
        if folder.is_symlink():
            found.leave_out("hidden", folder)
            continue
        for place, below, names in os.walk(folder):  # which does not follow links
            if not _is_new(Path(place), seen):
                below.clear()
                continue
            for name in names:
                found.leave_out("hidden", Path(place) / name)


def _besides(inside: Listing) -> str:
    return f" (left out: {inside.sentence()})" if inside.left_out else ""
