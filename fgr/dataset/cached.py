"""Tables by the library `datasets`, never out of a stale copy in its cache."""

import hashlib
from pathlib import Path
from typing import Any

from fgr.dataset.tables import parquet_files


def load_table(data: str, table: str, split: str, streaming: bool = False) -> Any:
    """The rows of a split of a table, of a dataset directory or Hub id; raises whatever `datasets` and pyarrow raise.

    `datasets` knows its copy of a folder by the folder's name and its card: another folder of that name, or other rows of the
    same number and size (people's scores decided anew), would be given the copy of the first. Here the copies of a folder's
    table lie apart, by its path and the times and sizes of its files.
    """
    import datasets

    folder = Path(data).expanduser()
    copies = Path(datasets.config.HF_DATASETS_CACHE) / "fgr" / _state(folder, table) if folder.is_dir() else None
    return datasets.load_dataset(data, table, split=split, streaming=streaming, cache_dir=copies and str(copies))


def _state(folder: Path, table: str) -> str:
    sha = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape"))
    for file in parquet_files(folder / table if (folder / table).is_dir() else folder):
        if file.is_file():
            seen = file.stat()
            sha.update(f"{file.relative_to(folder)}\0{seen.st_size} {seen.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]
