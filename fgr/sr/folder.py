"""Outputs made elsewhere: a folder with a restored image for every photograph, by its name."""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fgr.errors import UserError, nearest
from fgr.image_files import KNOWN_SUFFIXES, ImageFileError, images_below, read_image
from fgr.sr.jobs import Job
from fgr.tensors import file_digest


class Folder:
    """Gives back the crop of the stored output; the low-resolution input of a job is not used.

    ImageFileError where it is missing (reason "missing"), of another size than the photograph ("size"), or cannot be read.
    """

    external = True
    license = "unknown"

    def __init__(self, name: str, path: str, scale: int) -> None:
        self.name, self.scale = name, scale
        self.folder = Path(path).expanduser()
        self._files = _index(self.folder)
        self.digest = _digest(self._files)
        self.weights = f"{len(self._files)} outputs made elsewhere, in {self.folder.name}"
        self._open: tuple[Path, np.ndarray] | None = None  # crops of one photograph follow one another

    def settings(self, index: int = 0) -> dict[str, Any]:
        return {"tile": 0, "overlap": 0, "precision": "fp32"}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        return [self._one(job) for job in jobs]

    def expect_some(self, photos: Iterable[str]) -> None:
        """UserError if there is an output for none of the photographs of these names: the folder is another's, or they differ."""
        names = list(photos)
        if names and not any(name in self._files for name in names):
            raise self._missing(names[0], UserError)

    def _one(self, job: Job) -> np.ndarray:
        file = self._files.get(job.photo)
        if file is None:
            raise self._missing(job.photo, partial(ImageFileError, reason="missing"))
        if self._open is None or self._open[0] != file:
            self._open = file, _read(file, job.photo_size)
        top, left, side = job.box
        return self._open[1][top : top + side, left : left + side].copy()

    def _missing(self, photo: str, kind: Callable[[str, str], UserError]) -> UserError:
        return kind(
            f"{self.folder} has no output for the photograph '{photo}'{nearest(photo, list(self._files)) or '.'}",
            "Give every output its photograph's name; the suffix may differ.",
        )


def _index(folder: Path) -> dict[str, Path]:
    """Images by path below `folder` without suffix, as photographs are named."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Write folder:DIR, with the outputs of the SR model in DIR.")
    files: dict[str, Path] = {}
    for file in images_below(folder):
        photo = file.relative_to(folder).with_suffix("").as_posix()
        if photo in files:
            raise UserError(
                f"{folder} has two outputs for '{photo}': {files[photo].name} and {file.name}.", "Remove one of them."
            )
        files[photo] = file
    if not files:
        raise UserError(f"{folder} holds no images.", KNOWN_SUFFIXES)
    return files


def _digest(files: dict[str, Path]) -> str:
    """Of every name and every byte: rows made of other outputs are other rows."""
    sha = hashlib.sha256()
    for photo, file in files.items():
        sha.update(f"{photo}\0{file_digest(file)}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()


def _read(file: Path, size: tuple[int, int]) -> np.ndarray:
    image = read_image(file)
    if image.shape[:2] != size:
        raise ImageFileError(
            f"{file} has {image.shape[1]}×{image.shape[0]} pixels, its photograph {size[1]}×{size[0]}.",
            "Outputs must have the photograph's size: run the SR model on photographs reduced by the scale.",
            "size",
        )
    return image
