"""SR systems by name: a folder of outputs, an SR model, a run of `fgr rlhf`."""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fgr.errors import UserError, nearest
from fgr.evaluate.testset import Item
from fgr.image_files import KNOWN_SUFFIXES, images_below, read_image
from fgr.sr import Job, NonFiniteOutput, Upscaler, open_upscaler, parse_name
from fgr.sr.tuned_run import model_of


class System(Protocol):
    """What restores the items of a test set."""

    name: str
    reads_inputs: bool  # whether it restores the low-resolution inputs itself

    def facts(self) -> dict[str, Any]:
        """What the outputs depend on: the digest of weights or files, licence, tiling, precision."""

    def restore(self, item: Item) -> np.ndarray:
        """The output for an item, uint8 (H, W, 3). UserError if there is none."""


def open_system(name: str, items: list[Item], *, scale: int, device: str = "cpu", tile: int = 0) -> System:
    """Open the system `name`: a folder of images, a run's folder, or what `open_upscaler` takes. UserError."""
    folder = _folder(name)
    if folder is None:
        return SrModel(name, open_upscaler(name, scale=scale, device=device, tile=tile))
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name a folder of outputs, an SR model of `fgr models`, or a run.")
    if (folder / "run.json").is_file():
        return SrModel(name, open_upscaler(model_of(folder), scale=scale, device=device, tile=tile))
    return OutputFolder(name, folder, items)


def _folder(name: str) -> Path | None:
    """The folder that is named, with or without folder:; None for an SR model."""
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith(("/", "./", "~")):
        return folder
    spec = parse_name(name)
    return Path(spec.path).expanduser() if spec.kind == "folder" else None


class SrModel:
    """An SR model, run on the test set's low-resolution inputs."""

    reads_inputs = True

    def __init__(self, name: str, upscaler: Upscaler) -> None:
        self.name, self._upscaler = name, upscaler

    def facts(self) -> dict[str, Any]:
        model = self._upscaler
        return {"kind": "SR model", "digest": model.digest, "weights": model.weights, "license": model.license} | model.settings()

    def restore(self, item: Item) -> np.ndarray:
        if item.low is None:
            raise UserError(
                f"The test set has no low-resolution input for '{item.name}', which {self.name} needs.",
                "Give a test set with inputs, or the folder of the system's outputs.",
            )
        low = item.low()
        try:
            return self._upscaler.upscale([Job(low, item.name, low.shape[:2], (0, 0, low.shape[0]))])[0]
        except NonFiniteOutput as error:
            raise UserError(f"On '{item.name}' {error}.", "Check its weights.") from None


class OutputFolder:
    """A folder of outputs made elsewhere, found by name: NAME.png, or NAME_anything.png where only one file begins so."""

    reads_inputs = False

    def __init__(self, name: str, folder: Path, items: list[Item]) -> None:
        self.name, self.folder = name, folder
        files = images_below(folder, announce=True)
        if not files:
            raise UserError(f"The folder {folder} holds no images.", KNOWN_SUFFIXES)
        self._files = _match(folder, files, items)

    def facts(self) -> dict[str, Any]:
        sha = hashlib.sha256()
        for item, file in self._files.items():
            sha.update(f"{item}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
        return {"kind": "outputs made elsewhere", "digest": sha.hexdigest()}

    def restore(self, item: Item) -> np.ndarray:
        return read_image(self._files[item.name])


def _match(folder: Path, files: list[Path], items: list[Item]) -> dict[str, Path]:
    exact: dict[str, list[Path]] = {}
    for file in files:
        exact.setdefault(file.stem, []).append(file)
    taken = {alias for item in items for alias in item.aliases}
    return {item.name: _one(folder, exact, taken, item) for item in items}


def _one(folder: Path, exact: dict[str, list[Path]], taken: set[str], item: Item) -> Path:
    found = next((exact[alias] for alias in item.aliases if alias in exact), None)
    if found is None:
        starts = tuple(f"{alias}{mark}" for alias in item.aliases for mark in "_-.")
        found = [file for stem, same in exact.items() if stem not in taken and stem.startswith(starts) for file in same]
    if not found:
        raise UserError(
            f"{folder} has no output for '{item.name}'{nearest(item.name, [*exact])}",
            "Give every output its image's name; the ending may differ.",
        )
    if len(found) > 1:
        named = ", ".join(str(file.relative_to(folder)) for file in found[:3])
        raise UserError(f"{folder} has several outputs for '{item.name}': {named}.", "Keep one of them.")
    return found[0]
