"""Image cells of a dataset's rows, as bytes and as pixels; a path in a cell is never followed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fgr.errors import UserError
from fgr.images import codec

MAPS = ("degradation_map", "sr_map")
DECODERS: dict[str, Callable[[bytes], np.ndarray]] = {"mask": codec.decode_mask} | dict.fromkeys(MAPS, codec.decode_map)


def encoded(row: Mapping[str, Any], column: str) -> bytes:
    """The encoded image in a cell, whether the row comes from `tables` or from `datasets`. UserError for a cell without bytes.

    A cell may name a path or an address instead: it would make a foreign dataset read this machine's files or ask its network.
    """
    cell = row[column]
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(content, bytes) and content:
        return content
    what = lack(cell.get("path") if isinstance(cell, Mapping) else None)
    raise UserError(
        f"The dataset's row {row.get('id', '?')!s:.64} has {what} in the column {column}.",
        "Images must be embedded in the Parquet files, as `fgr generate` does.",
    )


def lack(path: Any) -> str:
    """What an image cell without bytes has, in words: nothing, or a path."""
    return f"only the path {str(path)[:80]!r}, which is not followed" if path else "no image"


def pixels(row: Mapping[str, Any], column: str, decode: Callable[[bytes], np.ndarray] | None = None) -> np.ndarray:
    """What the column holds: `mask` uint8 (H, W), maps float32 (H, W), others uint8 (H, W, 3).

    `decode` replaces the column's own decoder, as another table needs it. UserError naming the row: no bytes, not such an
    image, more than `codec.MAX_PIXELS`.
    """
    content = encoded(row, column)
    try:
        return (decode or DECODERS.get(column, codec.decode_rgb))(content)
    except ValueError as error:
        raise UserError(
            f"The dataset's row {row.get('id', '?')!s:.64} cannot be read: {column}: {error}.",
            "Check the dataset with `fgr verify DIR`, or load it anew.",
        ) from None
