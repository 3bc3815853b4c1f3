"""Layouts of folders of test images: which reference and input belong together, by names alone.

pairs       gt|HR|test_HR|reference|target… beside lr|LR|lq|test_LR|input…, files paired by name: the crops of StableSR's test
            sets, BasicSR's folders, SeeSR's gt/ and lr/, DIV2K's HR/ and LR_bicubic/X4/
realsr      {Canon,Nikon}/Test/SCALE/NAME_HR.png and NAME_LRSCALE.png, as version 3 of RealSR comes
drealsr     Test_xSCALE/test_HR and test_LR, as DRealSR comes
reallq250   a folder of inputs (or lq/ in it) without references: RealLQ250, RealLR200, RealSet80
references  a folder of references alone: outputs made elsewhere are compared with them; for an SR model
            `testset.with_made_inputs`
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fgr.errors import UserError, nearest
from fgr.image_files import Listing, list_images

REFERENCES = ("gt", "hr", "hq", "test_hr", "reference", "references", "target", "gtmod12", "high", "original")
INPUTS = ("lr", "lq", "test_lr", "input", "inputs", "low", "lr_bicubic", "x4")
CAMERAS = ("Canon", "Nikon")
# what names of one pair differ by: _HR, -LR4, _x4, and DIV2K's 0001x4
MARK = re.compile(r"[_.-](HR|LR\d*|GT|LQ|x\d)$|(?<=\d)x\d$", re.IGNORECASE)


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


@dataclass(frozen=True, slots=True)
class Folders:
    """Lists the images of folders, and keeps what was left out of each."""

    listings: dict[Path, Listing] = field(default_factory=dict)

    def images(self, folder: Path) -> list[Path]:
        """The image files directly in a folder, sorted."""
        if folder not in self.listings:
            self.listings[folder] = list_images(folder, deep=False)
        return self.listings[folder].files

    @property
    def notes(self) -> list[str]:
        """A sentence for each folder of which something was left out."""
        return [note for folder, listing in self.listings.items() if (note := listing.note(folder))]


@dataclass(frozen=True, slots=True)
class FolderPairs:
    """The pairs of a folder by name, its layout; the files that were left out, counted by reason and in sentences."""

    pairs: list[Pair]
    layout: str
    left_out: Counter[str]
    notes: list[str]


def find_pairs(folder: Path, layout: str, scale: int | None) -> FolderPairs:
    """The pairs in `folder`; the layout `auto` is the first that fits. UserError if none does."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name a dataset directory or a folder of test images.")
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"There is no layout '{layout}'{nearest(layout, [*LAYOUTS])}.", f"Known: auto, {', '.join(LAYOUTS)}.")
    folders = Folders()
    for name in LAYOUTS if layout == "auto" else (layout,):
        folders.listings.clear()
        pairs = LAYOUTS[name](folder, scale, folders)
        if pairs:
            _expect_unique(folder, pairs)
            left_out = sum((listing.left_out for listing in folders.listings.values()), Counter())
            return FolderPairs(sorted(pairs, key=lambda pair: pair.name), name, left_out, folders.notes)
    wanted = "any known layout" if layout == "auto" else f"the layout {layout}"
    raise UserError(
        f"{folder} is not arranged in {wanted}.",
        f"Arrange it as gt/ and lr/ with equal names. Layouts: {', '.join(LAYOUTS)}.",
        folders.notes,
    )


def pair_name(stem: str) -> str:
    """A file's stem without the mark that tells reference and input apart: Canon_001_LR4 → Canon_001."""
    return MARK.sub("", stem) or stem


def _realsr(folder: Path, scale: int | None, folders: Folders) -> list[Pair]:
    pairs: list[Pair] = []
    for camera in CAMERAS:
        place = folder / camera / "Test" / str(scale or 4)
        files = folders.images(place) if place.is_dir() else []
        references = [file for file in files if re.search(r"[_-]HR$", file.stem, re.IGNORECASE)]
        inputs = [file for file in files if re.search(r"[_-]LR\d*$", file.stem, re.IGNORECASE)]
        pairs += _joined(place, references, inputs)
    return pairs


def _drealsr(folder: Path, scale: int | None, folders: Folders) -> list[Pair]:
    place = next((one for one in (folder / f"Test_x{scale or 4}", folder / f"x{scale or 4}") if one.is_dir()), None)
    return _pairs(place, scale, folders) if place else []


def _pairs(folder: Path, scale: int | None, folders: Folders) -> list[Pair]:
    high, low = _subfolder(folder, REFERENCES), _subfolder(folder, INPUTS)
    if high is None:
        return []
    references = folders.images(high)
    if low is None:
        return [Pair(file.stem, file, None) for file in references]
    return _joined(folder, references, folders.images(_of_scale(low, scale, folders)))


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first of `names` that is there, also as the end of a longer name: DIV2K_valid_HR."""
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith(".")}
    whole = next((inside[name] for name in names if name in inside), None)
    if whole is not None:
        return whole
    ending = [one for name, one in inside.items() if name.endswith(tuple(f"_{end}" for end in names))]
    return ending[0] if len(ending) == 1 else None


def _of_scale(low: Path, scale: int | None, folders: Folders) -> Path:
    """The folder of inputs itself, or X2, X3, X4 in it, as DIV2K comes."""
    inside = {one.name.lower(): one for one in sorted(low.iterdir()) if one.is_dir() and re.fullmatch(r"[xX]\d", one.name)}
    if folders.images(low) or not inside:
        return low
    if scale and f"x{scale}" in inside:
        return inside[f"x{scale}"]
    if scale or len(inside) > 1:
        raise UserError(f"{low} holds {', '.join(one.name for one in inside.values())}.", "Say which with --scale.")
    return next(iter(inside.values()))


def _inputs(folder: Path, scale: int | None, folders: Folders) -> list[Pair]:
    return [Pair(file.stem, None, file) for file in folders.images(_subfolder(folder, INPUTS) or folder)]


def _references(folder: Path, scale: int | None, folders: Folders) -> list[Pair]:
    return [Pair(file.stem, file, None) for file in folders.images(folder)]


def _joined(folder: Path, references: Sequence[Path], inputs: Sequence[Path]) -> list[Pair]:
    """Files of one stem first, then the others by their stems without a mark; UserError for what has no or several partners."""
    if not inputs:
        return [Pair(name, file, None) for name, file in _by_name(folder, references, lambda stem: stem).items()]
    by_stem = [_by_name(folder, files, lambda stem: stem) for files in (references, inputs)]
    exact = by_stem[0].keys() & by_stem[1].keys()
    rest = [_by_name(folder, [file for file in files if file.stem not in exact], pair_name) for files in (references, inputs)]
    alone = sorted(rest[0].keys() ^ rest[1].keys())
    if alone:
        files = [str((rest[0].get(name) or rest[1][name]).relative_to(folder)) for name in alone[:3]]
        raise UserError(
            f"{folder}: {len(alone)} image{'s have' if len(alone) > 1 else ' has'} no partner, for example '{alone[0]}' "
            f"({', '.join(files)}).",
            "Every reference needs an input of its name, and the other way round.",
        )
    found = [Pair(stem, by_stem[0][stem], by_stem[1][stem]) for stem in exact]
    return found + [Pair(file.stem if name in exact else name, file, rest[1][name]) for name, file in rest[0].items()]


def _by_name(folder: Path, files: Iterable[Path], name_of: Callable[[str], str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        name = name_of(file.stem)
        if name in found:
            both = f"{found[name].relative_to(folder)} and {file.relative_to(folder)}"
            raise UserError(
                f"{folder}: {both} are both named '{name}'.", "Give a reference and its input one name, without a suffix."
            )
        found[name] = file
    return found


def _expect_unique(folder: Path, pairs: list[Pair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise UserError(f"{folder} has two images named '{pair.name}'.", "Rename one.")
        seen.add(pair.name)


LAYOUTS: dict[str, Callable[[Path, int | None, Folders], list[Pair]]] = {
    "realsr": _realsr,
    "drealsr": _drealsr,
    "pairs": _pairs,
    "reallq250": _inputs,
    "references": _references,
}
