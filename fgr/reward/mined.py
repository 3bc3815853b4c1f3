"""Mined defects: what tuned policies made beside what they began with, and labels of both: a file."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.errors import UserError
from fgr.images import codec

Row = Mapping[str, bytes]  # encoded images and maps by their names
IMAGES = ("reference", "start", "tuned")
MAPS = ("start_map", "tuned_map")


def encoded(images: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """A row of `IMAGES`, uint8 (H, W, 3), and `MAPS`, float32 (H, W) in [0, 1], both of the dataset's own difference."""
    row = {name: codec.encode_rgb(images[name]) for name in IMAGES}
    return row | {name: codec.encode_map(maps[name]) for name in MAPS}


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as one Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.binary()) for name in (*IMAGES, *MAPS)])
    with atomic.replacing(path) as file:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), file, compression="none")


def read(paths: Sequence[Path]) -> list[dict[str, bytes]]:
    """The rows of all files, in order. UserError for a file that is damaged."""
    import pyarrow.parquet as pq

    rows: list[dict[str, bytes]] = []
    for path in paths:
        try:
            rows += pq.read_table(path, columns=[*IMAGES, *MAPS]).to_pylist()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} cannot be read: {' '.join(str(error).split())[:160]}", "Remove it: the same command makes it anew."
            ) from None
    return rows


def digest(rows: Sequence[Row]) -> str:
    """16 hexadecimal digits that identify rows."""
    sha = hashlib.sha256()
    for row in rows:
        for name in (*IMAGES, *MAPS):
            sha.update(row[name])
    return sha.hexdigest()[:16]


def decoded(row: Row, turned: bool = False) -> dict[str, Any]:
    """A row as `Samples` decodes its own: the tuned output is a planted image on the SR output `start`; `turned` the other way.

    The planted one counts as worse only where its map is above the other's: some of what a policy does is harm, some is gain, and
    most is neither. Score and map must change by what the maps do, or a pattern that moves neither label could buy them.
    """
    reference, start, tuned = (codec.decode_rgb(row[name]) for name in IMAGES)
    before, after = (codec.decode_words(row[name]) for name in MAPS)
    if turned:
        start, tuned, before, after = tuned, start, after, before
    empty = np.zeros(before.shape, np.uint8)
    arrays = {
        "reference": reference, "sr": start, "composite": tuned, "mask": empty + 255, "target": after, "sr_target": before,
        "planted_map": after - np.minimum(after, before), "human_map": empty,
    }  # fmt: skip
    people = {"human_score": 0.0, "human_weight": 0.0, "human_map_weight": 0.0}
    return arrays | people | {"planted": 1.0, "planted_on_sr": 1.0, "steady": 1.0}
