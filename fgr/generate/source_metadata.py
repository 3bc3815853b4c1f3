"""Licences and authors of photographs: `metadata.jsonl` or `metadata.csv`, columns of a dataset."""

import csv
import json
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fgr.errors import UserError

NAMES = ("metadata.jsonl", "metadata.csv")
STATED = ("license", "attribution")
DELIMITERS = (",", ";", "\t")  # Excel's depends on the country
AS_TEXT = "Give license and attribution as text, or leave the column out and set source.license and source.attribution."


def read_metadata(folder: Path) -> tuple[Path | None, dict[str, dict[str, str]]]:
    """The file of metadata in a folder of photographs (the Hub's ImageFolder convention), and its rows by their file_name.

    UTF-8 with or without a byte order mark, UTF-16 and Windows-1252 are read, and tables with commas, semicolons or tabs.
    A row holds `license` and `attribution` where they are stated. UserError for what cannot be read or is no text.
    """
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if path is None:
        return None, {}
    try:
        rows = _json_lines(path) if path.suffix == ".jsonl" else _table(path)
        named = [(str(row["file_name"]), row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error):
        raise UserError(f"{path} cannot be read: each row needs a file_name.", "Correct it or move it away.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.", "Correct it or move it away.") from None
    return path, {_relative(name): stated(row, f"{path}: {name[:80]!r}") for name, row in named}


def stated(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """The `license` and `attribution` that a row states, as text. UserError naming `where` for a list or a mapping."""
    found = {}
    for key in STATED:
        value = row.get(key)
        if isinstance(value, list | dict | bytes):
            raise UserError(f"{where}: its {key} is {type(value).__name__}, not text.", AS_TEXT)
        text = "" if value is None else str(value).encode(errors="replace").decode()  # half a surrogate pair goes into no table
        if text.strip():
            found[key] = text
    return found


def column_as_text(feature: Any, column: str, dataset: str) -> Callable[[Any], Any]:
    """What makes text of the values of a dataset's column: a label its name. UserError for a column of lists or structs."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        names = feature.names
        return lambda value: names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    if not isinstance(feature, datasets.Value) or "binary" in feature.dtype:
        raise UserError(f"The column {column} of the dataset '{dataset}' holds no text: {str(feature)[:80]}.", AS_TEXT)
    return lambda value: value


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines() if line.strip()]


def _table(path: Path) -> list[dict[str, Any]]:
    lines = [line for line in _text(path).splitlines() if line.strip()]
    for delimiter in DELIMITERS:
        reader = csv.DictReader(lines, delimiter=delimiter)
        if "file_name" in (reader.fieldnames or ()):
            return list(reader)
    raise KeyError("file_name")


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _relative(name: str) -> str:
    return posixpath.normpath(name.strip().replace("\\", "/"))
