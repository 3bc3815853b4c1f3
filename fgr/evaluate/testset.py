"""Test sets: a dataset's references with their inputs replayed, or folders of images."""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgr.dataset import cells
from fgr.dataset.tables import evenly_drawn
from fgr.errors import UserError, notice, printable
from fgr.evaluate.folder_layouts import Pair, find_pairs
from fgr.image_files import ImageFileError, read_image
from fgr.images import degrade

Load = Callable[[], np.ndarray]


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


def open_test_set(
    data: str, *, split: str = "test", layout: str = "auto", scale: int | None = None, limit: int | None = None
) -> TestSet:
    """The test set `data`: a dataset directory or Hub id of `fgr generate`, or a folder in one of the layouts
    of `folder_layouts`, of which the files that are left out are counted for the user and in the protocol.

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
    photos = rows["photo_id"][:]
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
    found = find_pairs(folder, layout, scale)
    for note in found.notes:
        notice(note)
    named = ((printable(pair.name), pair) for pair in found.pairs)  # file names may be no text; results hold text
    items = [Item(name, name, pair.aliases, _loader(pair.reference), _loader(pair.low)) for name, pair in named]
    aside = {"files_left_out": dict(found.left_out)} if found.left_out else {}
    return items, scale or _scale(found.pairs), {"layout": found.layout} | aside


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
