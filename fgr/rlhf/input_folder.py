"""Low-resolution images in a folder that a policy is tuned and audited on, without references."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgr.errors import UserError, notice
from fgr.image_files import KNOWN_SUFFIXES, ImageFileError, images_below, read_image

HELD_OUT = 5


class InputFolder:
    """Real low-resolution images in a folder, by index: every HELD_OUT-th by name for the audit, the others to train on.

    All are read once: what cannot be read, or is smaller than a crop of `crop` pixels, is left out and named before the run
    begins. UserError if the folder holds fewer than two images, or none that can be used.
    """

    def __init__(self, folder: Path, split: str, crop: int = 0) -> None:
        files = images_below(folder, announce=split == "train")
        if len(files) < 2:
            raise UserError(
                f"The folder {folder} holds {len(files) or 'no'} images; at least two are needed, to train and to audit on.",
                KNOWN_SUFFIXES,
            )
        own = [file for number, file in enumerate(files) if (number % HELD_OUT == 0) == (split != "train")]
        self._files = _usable(folder, own, crop)
        self.digest = digest_of([f"{file.relative_to(folder)} {file.stat().st_size}" for file in self._files])

    def __len__(self) -> int:
        return len(self._files)

    def photograph(self, index: int) -> str:
        """Each file is its own."""
        return self._files[index].name

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return (read_image(self._files[index]),)


def _usable(folder: Path, files: Sequence[Path], crop: int) -> list[Path]:
    bad: dict[Path, str] = {}
    for file in files:
        try:
            height, width = read_image(file).shape[:2]
        except ImageFileError as error:
            bad[file] = error.message
        else:
            if min(height, width) < crop:
                bad[file] = f"{file} has {width}×{height} pixels, less than a crop of {crop}."
    if len(bad) == len(files):
        raise UserError(
            f"None of {len(files)} images of the folder {folder} can be used: {bad[files[0]]}",
            "Give images of at least data.crop and audit.crop pixels, or lower these.",
        )
    for reason in bad.values():
        notice(f"left out: {reason}")
    return [file for file in files if file not in bad]


def digest_of(parts: Sequence[str]) -> str:
    """16 hexadecimal digits that identify a list of texts."""
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]
