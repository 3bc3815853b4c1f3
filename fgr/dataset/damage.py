"""Datasets that cannot be read: which file is damaged or missing, as a sentence."""

import json
from collections.abc import Iterator
from pathlib import Path

from fgr.dataset import manifest
from fgr.dataset.tables import parquet_files
from fgr.errors import UserError

UNREADABLE = "it is not a readable Parquet file: damaged or cut off"
MISSING = "missing, though fgr.json lists it"
HINT = "Restore it or make the dataset again; `fgr verify DIR` names everything that is wrong."


def damaged_files(folder: Path, *, whole: bool = False) -> Iterator[tuple[str, str]]:
    """The Parquet files below `folder` that cannot be read, and those that `fgr.json` lists and are missing: name and what.

    Only their footers are read, with `whole` all of them.
    """
    for file in parquet_files(folder):
        if not _is_readable(file, whole):
            yield file.relative_to(folder).as_posix(), UNREADABLE
    for name in _listed(folder):
        if not (folder / name).is_file():
            yield name, MISSING


def dataset_error(name: str, error: BaseException, hint: str | None = None) -> UserError:
    """The sentence for whatever `datasets` raised while it opened or read the dataset `name`: the damaged file, or the reason."""
    if isinstance(error, UserError):
        return error
    folder = Path(name).expanduser()
    found = next(damaged_files(folder), None) or next(damaged_files(folder, whole=True), None) if folder.is_dir() else None
    if found:
        return UserError(f"The dataset {name} cannot be read: {found[0]}: {found[1]}.", HINT)
    return UserError(f"The dataset '{name}' cannot be opened: {reason(error)}", hint or HINT)


def reason(error: BaseException) -> str:
    """The beginning of what an error of `datasets` says; where it says nothing but that there is one, of its cause."""
    while type(error).__name__ in ("DatasetGenerationError", "SchemaInferenceError") and error.__cause__:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__


def _is_readable(file: Path, whole: bool) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for _ in parquet.iter_batches(16) if whole else ():
                pass
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def _listed(folder: Path) -> list[str]:
    try:
        shards = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))["shards"]
        return sorted(str(state["file"]) for state in shards if state["rows"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
