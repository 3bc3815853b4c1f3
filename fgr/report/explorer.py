"""The samples of a dataset to filter, sort and enlarge; full pictures in the page or beside it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fgr.dataset import cells, tables
from fgr.images import codec, degrade
from fgr.progress import Progress
from fgr.report import dataset_sections
from fgr.report.section import Section, data_uri, image_kind, jpeg, render, smaller

THUMBNAIL = 144  # pixels that each half of a thumbnail has at most: composite and map
EMBEDDED = 20_000_000  # bytes of full pictures that a page holds itself; with more, they lie in a folder beside it
WORST = 5  # of more samples than a page shows, one in so many is of the lowest scores
PICTURES = ("input", "reference", "sr", "composite", "map")
COLUMNS = ("id", "reference", "sr", "composite", "mask", "degradation_map", "degradation")
OURS = re.compile(r"[0-9a-f]{32}\.(png|jpeg|webp)")  # pictures beside a page, named after what they hold

Row = dict[str, Any]


def folder_of(page: Path) -> Path:
    """Where the full pictures of a page lie that does not hold them: beside it."""
    return page.with_name(f"{page.stem}-images")


def section(directory: Path, page: Path, most: int) -> Section:
    """At most `most` samples of a dataset, lowest score first; pictures that the page does not hold are written beside it.

    Pictures in the folder beside `page` that none of the samples has are removed.
    """
    table = dataset_sections.scalars(directory)
    rows = chosen(table, most)
    size = sum(shard.stat().st_size for shard in tables.shards(directory, "samples"))
    store = Store(None if size * len(rows) <= EMBEDDED * len(table) else folder_of(page))
    pictures = {}
    with Progress("report", len(rows), "samples") as progress:
        for row in _read(directory, {row["id"] for row in rows}):
            pictures[row["id"]] = _pictures(row, store)
            progress.advance()
    store.finish(folder_of(page))
    choices = {name: sorted({row[name] for row in rows}) for name in ("model", "mask_kind", "split")}
    html = render(
        "explorer.html", rows=[row | pictures[row["id"]] for row in rows], total=len(table), choices=choices, names=PICTURES,
        folder=store.folder.name if store.folder else None, store=store.addresses, scale=dataset_sections.colour_scale(),
    )  # fmt: skip
    return Section("Samples", html)


def chosen(table: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows, lowest score first: of more, a part has the lowest scores, the others are spread evenly over them."""
    ordered = sorted(table, key=lambda row: (row["score"], row["id"]))
    worst = len(ordered) if len(ordered) <= most else max(1, most // WORST)
    others = ordered[worst:]
    return ordered[:worst] + [others[number] for number in tables.evenly_drawn(len(others), most - worst)]


class Store:
    """Full pictures by a digest of their bytes, so that a reference that several samples share is kept once."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.addresses = folder, dict[str, str]()  # digest → data URI, of pictures inside the page
        self._names = set[str]()

    def add(self, image: bytes) -> str:
        """Keep an encoded image; its digest, or its file's name in the folder."""
        digest = hashlib.sha256(image).hexdigest()[:32]
        if self.folder is None:
            if digest not in self.addresses:
                self.addresses[digest] = data_uri(image)
            return digest
        name = f"{digest}.{image_kind(image)}"
        if name not in self._names:
            self._names.add(name)
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self.folder / name
            if not file.is_file() or file.stat().st_size != len(image):  # a page can be made again: no need to wait for the disk
                file.write_bytes(image)
        return name

    def finish(self, folder: Path) -> None:
        """Remove pictures of an earlier page from `folder`."""
        for file in folder.glob("*"):
            if OURS.fullmatch(file.name) and file.name not in self._names:
                file.unlink()


def _read(directory: Path, wanted: set[str]) -> Iterator[Row]:
    """The chosen rows with their images; only shards that hold one are read, a row at a time."""
    for shard in tables.shards(directory, "samples"):
        here = {row["id"] for row in tables.read_shard(shard, ["id"])} & wanted
        if here:
            yield from (row for row in tables.read_shard(shard, COLUMNS, batch=1) if row["id"] in here)


def _pictures(row: Row, store: Store) -> dict[str, Any]:
    """A sample's thumbnail as a data URI, and where its full pictures are."""
    composite = cells.pixels(row, "composite")
    shown = dataset_sections.overlay(composite, *(cells.pixels(row, name) for name in ("mask", "degradation_map")))
    full = {name: store.add(cells.encoded(row, name)) for name in ("reference", "sr", "composite")}
    full |= {"map": store.add(jpeg(shown, 92))}
    if (low := replayed_input(row)) is not None:
        full["input"] = store.add(codec.encode_rgb(low))
    thumbnail = np.concatenate([smaller(image, THUMBNAIL) for image in (composite, shown)], axis=1)
    return {"thumbnail": data_uri(jpeg(thumbnail, 72)), "pictures": [full.get(name) for name in PICTURES]}


def replayed_input(row: Mapping[str, Any]) -> np.ndarray | None:
    """The low-resolution input, replayed; None where the SR output was made elsewhere, or the record cannot be replayed."""
    try:
        record = json.loads(row["degradation"])
        return None if record["preset"] == "external" else degrade.apply(cells.pixels(row, "reference"), record)
    except (ValueError, LookupError, TypeError, AttributeError, cv2.error):  # a foreign dataset's record
        return None
