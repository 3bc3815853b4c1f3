"""Layouts of test-set folders: which file is whose reference, by their names alone.

pairs       gt|HR|test_HR|reference|target… beside lr|LR|lq|test_LR|input…, files paired by name: the crops of StableSR's test
            sets, BasicSR's folders, SeeSR's gt/ and lr/
realsr      {Canon,Nikon}/Test/SCALE/NAME_HR.png and NAME_LRSCALE.png, as version 3 of RealSR comes
drealsr     Test_xSCALE/test_HR and test_LR, as DRealSR comes
reallq250   a folder of inputs (or lq/ in it) without references: RealLQ250, RealLR200, RealSet80
references  a folder of references alone: for outputs made elsewhere
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fgr.errors import UserError, nearest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
REFERENCES = ("gt", "hr", "hq", "test_hr", "reference", "references", "target", "gtmod12", "high", "original")
INPUTS = ("lr", "lq", "test_lr", "input", "inputs", "low", "lr_bicubic", "x4")
CAMERAS = ("Canon", "Nikon")
MARK = re.compile(r"[_-]?(HR|LR\d*|GT|LQ|x\d)$", re.IGNORECASE)  # what names of one pair differ by


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of one image; at least one of `reference` and `low` is there."""

    name: str
    reference: Path | None
    low: Path | None

    @property
    def aliases(self) -> tuple[str, ...]:
        """The stems that an output for this image may have."""
        stems = [self.name, *(file.stem for file in (self.low, self.reference) if file)]
        return tuple(dict.fromkeys(stems))


def find(folder: Path, layout: str, scale: int | None) -> tuple[list[Pair], str]:
    """The pairs in `folder` and the layout's name; `auto` takes the first that fits. UserError if none does."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name a dataset directory or a folder of test images.")
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"There is no layout '{layout}'{nearest(layout, [*LAYOUTS])}.", f"Known: auto, {', '.join(LAYOUTS)}.")
    for name in LAYOUTS if layout == "auto" else (layout,):
        pairs = LAYOUTS[name](folder, scale)
        if pairs:
            _expect_unique(folder, pairs)
            return sorted(pairs, key=lambda pair: pair.name), name
    wanted = "any layout that is known" if layout == "auto" else f"the layout {layout}"
    raise UserError(
        f"{folder} is not in {wanted}.", f"Arrange it as gt/ and lr/ with equal names. Layouts: {', '.join(LAYOUTS)}."
    )


def images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def plain(stem: str) -> str:
    """A file's stem without the mark that tells reference and input apart: Canon_001_LR4 → Canon_001."""
    return MARK.sub("", stem) or stem


def _realsr(folder: Path, scale: int | None) -> list[Pair]:
    pairs: list[Pair] = []
    for camera in CAMERAS:
        place = folder / camera / "Test" / str(scale or 4)
        files = images(place) if place.is_dir() else []
        references = {plain(file.stem): file for file in files if file.stem.upper().endswith("HR")}
        inputs = {plain(file.stem): file for file in files if re.search(r"LR\d*$", file.stem, re.IGNORECASE)}
        pairs += _joined(place, references, inputs)
    return pairs


def _drealsr(folder: Path, scale: int | None) -> list[Pair]:
    place = next((one for one in (folder / f"Test_x{scale or 4}", folder / f"x{scale or 4}") if one.is_dir()), None)
    return _pairs(place, scale) if place else []


def _pairs(folder: Path, scale: int | None) -> list[Pair]:
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir()}
    high = next((inside[name] for name in REFERENCES if name in inside), None)
    low = next((inside[name] for name in INPUTS if name in inside), None)
    if high is None:
        return []
    references = {plain(file.stem): file for file in images(high)}
    return _joined(folder, references, {plain(file.stem): file for file in images(low)} if low else {})


def _inputs(folder: Path, scale: int | None) -> list[Pair]:
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir()}
    place = next((inside[name] for name in INPUTS if name in inside), folder)
    return [Pair(file.stem, None, file) for file in images(place)]


def _references(folder: Path, scale: int | None) -> list[Pair]:
    return [Pair(file.stem, file, None) for file in images(folder)]


def _joined(folder: Path, references: dict[str, Path], inputs: dict[str, Path]) -> list[Pair]:
    alone = sorted(set(references) ^ set(inputs)) if inputs else []
    if alone:
        raise UserError(
            f"{folder}: {len(alone)} image{'s have' if len(alone) > 1 else ' has'} no partner, for example '{alone[0]}'.",
            "Every reference needs an input of its name, and the other way round.",
        )
    return [Pair(name, file, inputs.get(name)) for name, file in references.items()]


def _expect_unique(folder: Path, pairs: list[Pair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise UserError(f"{folder} has two images named '{pair.name}'.", "Rename one.")
        seen.add(pair.name)


LAYOUTS: dict[str, Callable[[Path, int | None], list[Pair]]] = {
    "realsr": _realsr,
    "drealsr": _drealsr,
    "pairs": _pairs,
    "reallq250": _inputs,
    "references": _references,
}
