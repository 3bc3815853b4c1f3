"""`fgr.load_samples`: a dataset's rows as NumPy arrays or tensors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fgr import records
from fgr.dataset import cells
from fgr.dataset.location import open_table
from fgr.errors import UserError, nearest

Format = Literal["numpy", "torch", "encoded"]


def load_samples(
    data: str | Path,
    split: str = "train",
    columns: Sequence[str] | None = None,
    *,
    format: Format = "numpy",
    streaming: bool = False,
) -> Any:
    """The rows of a split of a dataset, decoded when they are asked for.

    Args:
        data: A dataset directory, or a dataset's id on the Hub.
        split: `train`, `validation` or `test`.
        columns: The columns that are read and decoded; None = all.
        format: `numpy`: RGB images are uint8 (H, W, 3), mask and maps float32 (H, W) in [0, 1]. `torch`: images are float32
            (3, H, W) and maps (1, H, W), all in [0, 1], ready for a DataLoader. `encoded`: a plain dataset whose images are
            `{"bytes": …}` as they are stored: they survive `map`, which writes decoded images anew with losses.
        streaming: Read rows one after another, from the Hub without a download before.

    Returns:
        A `datasets.Dataset`, or with `streaming` an `IterableDataset`.

    Raises:
        UserError: An unknown column, one that datasets of earlier versions lack, no such dataset or split.

    Examples:
        ```python
        row = fgr.load_samples("out/demo", "test", columns=["composite", "degradation_map"])[0]
        print(row["composite"].shape, row["degradation_map"].max())
        ```
    """
    import datasets

    known = records.columns("samples")
    for name in columns or ():
        if name not in known:
            raise UserError(f"The table samples has no column '{name}'{nearest(name, known)}.", f"It has: {', '.join(known)}.")
    rows = open_table(data, "samples", split, streaming)
    present = rows.column_names or known
    for name in set(records.media_columns("samples")) & set(present):
        rows = rows.cast_column(name, datasets.Image(decode=False))
    wanted = list(columns or [name for name in known if name in present])
    _expect_columns(wanted, present, data)
    rows = rows.select_columns(wanted)  # after the casts: before, streams would decode the others and encode them anew
    if format == "encoded":
        return rows
    return rows.map(_decoder(format)) if streaming else rows.with_transform(_batched(_decoder(format)))


def _expect_columns(wanted: Sequence[str], present: Sequence[str], data: str | Path) -> None:
    lacking = [name for name in wanted if name not in present]
    if lacking:
        raise UserError(
            f"The dataset {data} has no column {', '.join(lacking)}: it was made before version 0.2, or elsewhere.",
            f"Make it again with `fgr generate`, or leave the column out: it has {', '.join(present)}.",
        )


def _decoder(format: Format) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    media = set(records.media_columns("samples"))
    converted = {"numpy": lambda pixels: pixels, "torch": _tensor}[format]

    def decode(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: converted(_pixels(row, name)) if name in media else value for name, value in row.items()}

    return decode


def _pixels(row: Mapping[str, Any], name: str) -> np.ndarray:
    found = cells.pixels(row, name)
    return found.astype(np.float32) / 255 if name == "mask" else found


def _tensor(pixels: np.ndarray) -> Any:
    import torch

    if pixels.ndim == 3:
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
    return torch.from_numpy(pixels)[None]


def _batched(decode: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def whole(batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        rows = [decode(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [row[name] for row in rows] for name in batch}

    return whole
