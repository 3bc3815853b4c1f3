"""A dataset's tables on the disk: Parquet with embedded images, written whole or not at all."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic, records
from fgr.errors import UserError

ROW_GROUP = 100  # rows: the Hub's viewer pages by row group and reads at most 286 MiB of one
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}


def write_table(path: Path | str, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` of `table` as one Parquet file; image cells are encoded bytes. ValueError for no rows or a wrong cell.

    Columns that tables of earlier versions lack may be absent from all rows. One row group at a time is in memory.
    Content-defined chunking and uncompressed images keep later uploads small; the bytes depend on the rows and on the versions
    of the writing libraries alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting = iter(rows)
    first = next(waiting, None)
    if first is None:
        raise ValueError("a Parquet file without rows makes load_dataset fail: leave it out")
    schema = records.arrow_schema(table, [name for name in records.ADDED.get(table, ()) if name not in first])
    media = [name for name in records.media_columns(table) if name in schema.names]
    cells = ({name: _cell(row[name], name in media) for name in schema.names} for row in chain([first], waiting))
    group = list(islice(cells, ROW_GROUP))
    with atomic.replacing(path) as file, pq.ParquetWriter(file, schema, **_options(schema, media)) as writer:
        while group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=ROW_GROUP)
            group = list(islice(cells, ROW_GROUP))
        for key in ("content_defined_chunking", "use_content_defined_chunking"):
            writer.add_key_value_metadata({key: json.dumps(CHUNKING)})


def parquet_files(folder: Path | str, pattern: str = "**/*.parquet") -> list[Path]:
    """The files below `folder` that `pattern` matches, sorted, without hidden ones: macOS leaves a `._NAME` beside each NAME."""
    return sorted(file for file in Path(folder).glob(pattern) if not file.name.startswith("."))


def shards(directory: Path | str, table: str, split: str | None = None) -> list[Path]:
    """The table's Parquet files in `directory`, sorted; of one split if it is named."""
    return parquet_files(Path(directory) / table, f"{split}-*.parquet" if split else "*.parquet")


def split_of(shard: Path) -> str:
    """The split a shard of `samples` belongs to, from its name."""
    return shard.name.partition("-")[0]


def read_rows(
    directory: Path | str, table: str, columns: Sequence[str] | None = None, split: str | None = None
) -> Iterator[dict[str, Any]]:
    """Stream rows as dicts, image cells as encoded bytes; only `columns` are read. UserError if there is no such table."""
    for file in _expect_shards(directory, table, split):
        yield from read_shard(file, columns)


def read_shards(directory: Path | str, table: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Stream rows as `read_rows` does; nothing where there is no such table."""
    for file in shards(directory, table):
        yield from read_shard(file, columns)


def read_shard(file: Path, columns: Sequence[str] | None = None, batch: int = 16) -> Iterator[dict[str, Any]]:
    """Stream one Parquet file's rows as dicts, image cells as encoded bytes. UserError if it cannot be read."""
    for part in _batches(file, columns, batch):
        for row in part.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def read_heads(directory: Path | str, table: str, column: str, start: int, stop: int) -> Iterator[tuple[str, bytes]]:
    """Stream each row's id with the bytes start…stop of an image cell: what its header says, without its copy in Python.

    UserError if there is no such table.
    """
    for file in _expect_shards(directory, table):
        for part in _batches(file, ("id", column), ROW_GROUP):
            for sample, cell in zip(part["id"].to_pylist(), part[column].field("bytes"), strict=True):
                yield sample, cell.as_buffer()[start:stop].to_pybytes()


def _expect_shards(directory: Path | str, table: str, split: str | None = None) -> list[Path]:
    files = shards(directory, table, split)
    if not files:
        which = f"split '{split}' of the table '{table}'" if split else f"table '{table}'"
        raise UserError(f"{directory} has no {which}.", "Make a dataset with: fgr generate --out DIR")
    return files


def _batches(file: Path, columns: Sequence[str] | None, size: int) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(size, columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise UserError(f"{file} is not a readable Parquet file: {error}", "Restore it or make the dataset again.") from None


def count_rows(directory: Path | str, table: str, split: str | None = None) -> int:
    """Number of rows, from the files' footers."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in shards(directory, table, split))


def stored_columns(directory: Path | str, table: str) -> tuple[records.Column, ...]:
    """The columns that the table has on the disk: those written by earlier versions lack some."""
    import pyarrow.parquet as pq

    names = {name for file in shards(directory, table)[:1] for name in pq.read_schema(file).names}
    return tuple(column for column in records.TABLES[table] if column.name in names)


def evenly_drawn(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` rows, ascending: one drawn from each of as many equal parts, the same every time.

    Every n-th row would not do: neighbours are of different SR models in turn, and n may be their number.
    """
    if most >= count:
        return list(range(count))
    edges = np.linspace(0, count, most + 1).astype(int)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:]).tolist()


def write_small(directory: Path | str, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rewrite a small table (annotations, preferences, consensus) whole, or remove it for no rows.

    The dataset card declares the tables that are there: write it again afterwards (`card.write`).
    """
    path = Path(directory) / table / "part-00000-of-00001.parquet"
    waiting = iter(rows)
    first = next(waiting, None)
    if first is not None:
        write_table(path, table, chain([first], waiting))
    else:
        path.unlink(missing_ok=True)


def _options(schema: Any, media: list[str]) -> dict[str, Any]:
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    images = [leaf for leaf in leaves if leaf.partition(".")[0] in media]
    return {
        "use_content_defined_chunking": CHUNKING,
        "write_page_index": True,
        "compression": {leaf: "none" if leaf in images else "snappy" for leaf in leaves},
        "use_dictionary": [leaf for leaf in leaves if leaf not in images],
        "column_encoding": dict.fromkeys(images, "PLAIN"),
    }


def _leaves(path: str, kind: Any) -> Iterator[str]:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path


def _cell(value: Any, is_media: bool) -> Any:
    if not is_media:
        return value
    if not isinstance(value, bytes) or not value:
        raise ValueError("an image cell must be encoded bytes")
    return {"bytes": value, "path": None}


def _plain(value: Any) -> Any:
    return value["bytes"] if isinstance(value, dict) and value.keys() == {"bytes", "path"} else value
