"""Which dataset a name stands for, a folder of this machine or else one on the Hub; and its tables."""

from pathlib import Path
from typing import Any

from fgr.dataset import manifest, tables
from fgr.dataset.cached import load_table
from fgr.dataset.damage import damaged_files, dataset_error, reason
from fgr.errors import UserError
from fgr.hub_files import folder_or_hub

GENERATE = "Make one with: fgr generate --out DIR"
HINT = f"{GENERATE}, or name a dataset on the Hub (org/name)."


def open_table(data: str | Path, table: str, split: str, streaming: bool = False) -> Any:
    """The rows of a split of a table as `datasets` opens them, of a dataset directory or a Hub id.

    UserError: no such dataset, split or table, one that is not finished, damaged files. A folder is looked for first, and nothing
    is asked of the Hub where one is meant.
    """
    folder = expect_dataset(data)
    try:
        return load_table(str(folder or data), table, split, streaming)
    except Exception as error:  # its own classes, those of pyarrow and of the network
        raise _sentence(str(data), folder, table, split, error) from None


def table_names(data: str | Path) -> list[str]:
    """The tables that a dataset has. UserError as for `open_table`."""
    import datasets

    folder = expect_dataset(data)
    try:
        return datasets.get_dataset_config_names(str(folder or data))
    except Exception as error:
        raise dataset_error(str(data), error) from None


def has_split(data: str | Path, split: str) -> bool:
    """Whether a dataset has samples in a split. UserError as for `open_table`."""
    import datasets

    folder = expect_dataset(data)
    try:
        return split in datasets.get_dataset_split_names(str(folder or data), "samples")
    except Exception as error:
        raise _sentence(str(data), folder, "samples", split, error) from None


def expect_dataset(data: str | Path) -> Path | None:
    """The dataset's folder, or None where `data` names a dataset on the Hub. UserError: neither, or no dataset in it."""
    folder = folder_or_hub(str(data), "dataset", "dataset", HINT)
    if folder is not None:
        manifest.expect_finished(folder)
        if not tables.parquet_files(folder) and not (folder / manifest.NAME).is_file():
            raise UserError(f"{data} is not an FGR dataset: no table is in it.", GENERATE)
    return folder


def _sentence(data: str, folder: Path | None, table: str, split: str, error: Exception) -> UserError:
    text = reason(error)
    if "Unknown split" in text or "Bad split" in text:
        return UserError(
            f"The dataset {data} has no split '{split}': {text}",
            "Training needs train and validation, evaluation the split it names: generate with all three shares above 0.",
        )
    if isinstance(error, ValueError) and not (folder and next(damaged_files(folder, whole=True), None)):
        return UserError(f"{data} is not an FGR dataset: it has no table '{table}' ({text})", GENERATE)
    return dataset_error(data, error)
