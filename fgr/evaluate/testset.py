"""Test sets: a dataset's references with their inputs replayed, or folders of images.

Layouts of folders, by names alone:

pairs       gt|HR|test_HR|reference|target… beside lr|LR|lq|test_LR|input…, files paired by name: the crops of StableSR's test
            sets, BasicSR's folders, SeeSR's gt/ and lr/, DIV2K's HR/ and LR_bicubic/X4/
realsr      {Canon,Nikon}/Test/SCALE/NAME_HR.png and NAME_LRSCALE.png, as version 3 of RealSR comes
drealsr     Test_xSCALE/test_HR and test_LR, as DRealSR comes
reallq250   a folder of inputs (or lq/ in it) without references: RealLQ250, RealLR200, RealSet80
references  a folder of references alone: outputs made elsewhere are compared with them; for an SR model `with_made_inputs`
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgr.dataset import cells
from fgr.dataset.tables import evenly_drawn
from fgr.errors import UserError, nearest, printable
from fgr.image_files import ImageFileError, images_in, read_image
from fgr.images import degrade

Load = Callable[[], np.ndarray]
REFERENCES = ("gt", "hr", "hq", "test_hr", "reference", "references", "target", "gtmod12", "high", "original")
INPUTS = ("lr", "lq", "test_lr", "input", "inputs", "low", "lr_bicubic", "x4")
CAMERAS = ("Canon", "Nikon")
# what names of one pair differ by: _HR, -LR4, _x4, and DIV2K's 0001x4
MARK = re.compile(r"[_.-](HR|LR\d*|GT|LQ|x\d)$|(?<=\d)x\d$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Item:
    """One image to restore. `aliases` are the names that outputs made elsewhere may have; images are read when asked for."""

    name: str
    group: str  # the photograph: what the bootstrap draws
    aliases: tuple[str, ...]
    reference: Load | None  # uint8 (H, W, 3)
    low: Load | None  # uint8 (H / scale, W / scale, 3)


@dataclass(frozen=True, slots=True)
class TestSet:
    """Items and what the protocol says of them."""

    __test__ = False  # no test class, whatever its name
    items: list[Item]
    scale: int
    protocol: dict[str, Any]


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


def open_test_set(
    data: str, *, split: str = "test", layout: str = "auto", scale: int | None = None, limit: int | None = None
) -> TestSet:
    """The test set `data`: a dataset directory or Hub id of `fgr generate`, or a folder in one of `LAYOUTS`.

    `scale` is needed only where the images do not tell it. At most `limit` items, spread over the set. UserError.
    """
    folder = Path(data).expanduser()
    dataset = not folder.is_dir() or (folder / "fgr.json").is_file() or (folder / "samples").is_dir()
    if dataset and layout == "auto":
        items, found, protocol = _of_dataset(data, split)
    else:
        items, found, protocol = _of_folder(folder, layout, scale)
    if scale and scale != found:
        raise UserError(f"The test set {data} is made for ×{found}, not ×{scale}.", "Leave --scale out.")
    chosen = [items[i] for i in evenly_drawn(len(items), limit)] if limit else items
    names = hashlib.sha256("\n".join(item.name for item in chosen).encode()).hexdigest()[:16]
    return TestSet(chosen, found, {"data": data, "images": len(chosen), "names": names, "scale": found} | protocol)


def with_made_inputs(tests: TestSet) -> TestSet:
    """Of a test set of references alone, one with an input for each: antialiased bicubic reduction by the set's scale.

    The references lose the last rows and columns that are no multiple of it. A test set with any input comes back as it is.
    """
    if any(item.low or not item.reference for item in tests.items):
        return tests
    items = [_reduced(item, item.reference, tests.scale) for item in tests.items if item.reference]
    made = f"made from the references by bicubic reduction ×{tests.scale}: the set holds none"
    return replace(tests, items=items, protocol=tests.protocol | {"inputs": made})


def _reduced(item: Item, whole: Load, scale: int) -> Item:
    def reference() -> np.ndarray:
        image = whole()
        height, width = (side // scale * scale for side in image.shape[:2])
        if not height or not width:
            raise ImageFileError(f"The reference '{item.name}' is too small for an input of 1/{scale} its size.", reason="size")
        return np.ascontiguousarray(image[:height, :width])

    return replace(item, reference=reference, low=lambda: degrade.apply(reference(), {"preset": "bicubic", "scale": scale}))


def _of_dataset(data: str, split: str) -> tuple[list[Item], int, dict[str, Any]]:
    from fgr.reward import splits

    rows = splits.open_split(data, split)
    external = [json.loads(text)["preset"] == "external" for text in rows["degradation"]]
    scales = sorted({scale for scale, made in zip(rows["scale"], external, strict=True) if not made})
    if not scales:
        raise UserError(
            f"No low-resolution input of {data} can be replayed: all its outputs were made elsewhere.",
            "Evaluate on the folders instead: --data FOLDER with gt/ and lr/.",
        )
    if len(scales) > 1:
        raise UserError(f"{data} holds the scales {', '.join(map(str, scales))}.", "Evaluate on datasets of one scale.")
    keys: dict[tuple[str, str], int] = {}
    for number, key in enumerate(zip(rows["source_id"], rows["degradation"], strict=True)):
        if not external[number]:
            keys.setdefault(key, number)
    photos = rows["photo_id"]
    items = [_item(rows, number, *key, photos[number]) for key, number in keys.items()]
    protocol = {"split": split, "inputs": "replayed from the rows' degradation", "left_out_external": sum(external)}
    return items, int(scales[0]), protocol


def _item(rows: Any, number: int, source_id: str, record: str, photo: str) -> Item:
    digests = (hashlib.sha256(text.encode()).hexdigest()[:12] for text in (source_id, record))
    name = "-".join(digests)  # safe as a file's name, whatever the data

    def reference() -> np.ndarray:
        try:
            return cells.pixels(rows[number], "reference")
        except UserError as error:
            raise ImageFileError(error.message, error.hint) from None

    return Item(name, photo, (name,), reference, lambda: degrade.apply(reference(), json.loads(record)))


def _of_folder(folder: Path, layout: str, scale: int | None) -> tuple[list[Item], int, dict[str, Any]]:
    pairs, chosen = find_pairs(folder, layout, scale)
    named = ((printable(pair.name), pair) for pair in pairs)  # file names may be no text; results hold text
    items = [Item(name, name, pair.aliases, _loader(pair.reference), _loader(pair.low)) for name, pair in named]
    return items, scale or _scale(pairs), {"layout": chosen}


def _loader(path: Path | None) -> Load | None:
    return None if path is None else lambda: read_image(path)


def _scale(pairs: Iterable[Pair]) -> int:
    """The factor between the first reference and its input that can be read; 4 where there is nothing to compare."""
    for pair in pairs:
        if pair.reference is not None and pair.low is not None:
            with suppress(ImageFileError):
                return _factor(pair.reference, pair.low)
    return 4


def _factor(reference: Path, low: Path) -> int:
    large, small = (read_image(path).shape[:2] for path in (reference, low))
    factor = large[0] // small[0]
    if factor < 1 or (small[0] * factor, small[1] * factor) != large:
        raise UserError(
            f"{reference} ({large[1]}×{large[0]}) is not a whole multiple of {low} ({small[1]}×{small[0]}).",
            "Crop the references to the inputs' size times the scale.",
        )
    return factor


def find_pairs(folder: Path, layout: str, scale: int | None) -> tuple[list[Pair], str]:
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
    wanted = "any known layout" if layout == "auto" else f"the layout {layout}"
    raise UserError(
        f"{folder} is not arranged in {wanted}.", f"Arrange it as gt/ and lr/ with equal names. Layouts: {', '.join(LAYOUTS)}."
    )


def pair_name(stem: str) -> str:
    """A file's stem without the mark that tells reference and input apart: Canon_001_LR4 → Canon_001."""
    return MARK.sub("", stem) or stem


def _realsr(folder: Path, scale: int | None) -> list[Pair]:
    pairs: list[Pair] = []
    for camera in CAMERAS:
        place = folder / camera / "Test" / str(scale or 4)
        files = images_in(place) if place.is_dir() else []
        references = [file for file in files if re.search(r"[_-]HR$", file.stem, re.IGNORECASE)]
        inputs = [file for file in files if re.search(r"[_-]LR\d*$", file.stem, re.IGNORECASE)]
        pairs += _joined(place, references, inputs)
    return pairs


def _drealsr(folder: Path, scale: int | None) -> list[Pair]:
    place = next((one for one in (folder / f"Test_x{scale or 4}", folder / f"x{scale or 4}") if one.is_dir()), None)
    return _pairs(place, scale) if place else []


def _pairs(folder: Path, scale: int | None) -> list[Pair]:
    high, low = _subfolder(folder, REFERENCES), _subfolder(folder, INPUTS)
    if high is None:
        return []
    references = images_in(high)
    return _joined(folder, references, images_in(_of_scale(low, scale))) if low else [Pair(f.stem, f, None) for f in references]


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder of the first of `names` that is there, also as the end of a longer name: DIV2K_valid_HR."""
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith(".")}
    whole = next((inside[name] for name in names if name in inside), None)
    if whole is not None:
        return whole
    ending = [one for name, one in inside.items() if name.endswith(tuple(f"_{end}" for end in names))]
    return ending[0] if len(ending) == 1 else None


def _of_scale(low: Path, scale: int | None) -> Path:
    """The folder of inputs itself, or X2, X3, X4 in it, as DIV2K comes."""
    inside = {one.name.lower(): one for one in sorted(low.iterdir()) if one.is_dir() and re.fullmatch(r"[xX]\d", one.name)}
    if images_in(low) or not inside:
        return low
    if scale and f"x{scale}" in inside:
        return inside[f"x{scale}"]
    if scale or len(inside) > 1:
        raise UserError(f"{low} holds {', '.join(one.name for one in inside.values())}.", "Say which with --scale.")
    return next(iter(inside.values()))


def _inputs(folder: Path, scale: int | None) -> list[Pair]:
    return [Pair(file.stem, None, file) for file in images_in(_subfolder(folder, INPUTS) or folder)]


def _references(folder: Path, scale: int | None) -> list[Pair]:
    return [Pair(file.stem, file, None) for file in images_in(folder)]


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


LAYOUTS: dict[str, Callable[[Path, int | None], list[Pair]]] = {
    "realsr": _realsr,
    "drealsr": _drealsr,
    "pairs": _pairs,
    "reallq250": _inputs,
    "references": _references,
}
