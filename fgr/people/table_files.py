"""Tables as files: CSV, Parquet, JSON (records), JSON lines, the first sheet of an Excel workbook."""

import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fgr.errors import UserError

SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LARGEST = 2**28  # bytes of a sheet


def read(path: Path, hint: str | None = None) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table. UserError, with `hint`."""
    import polars

    if path.suffix.lower() not in READERS:
        raise UserError(f"{path} is not a table.", f"Known suffixes: {', '.join(SUFFIXES)}.")
    try:
        table = READERS[path.suffix.lower()](path)
    except (polars.exceptions.PolarsError, OSError, ValueError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())[:160]}", hint) from None
    return table.columns, table.to_dicts()


def _csv(path: Path) -> Any:
    """All as texts: names such as 0000001 keep their zeros."""
    import polars

    return polars.read_csv(path, infer_schema_length=0)


def _parquet(path: Path) -> Any:
    import polars

    return polars.read_parquet(path)


def _json(path: Path, lines: bool = False) -> Any:
    """A list of records, records by id, or a record a line."""
    text = path.read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    rows = [{"id": key, **one} for key, one in found.items() if isinstance(one, dict)] if isinstance(found, dict) else found
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("neither a list of records nor records by id")
    return _frame(rows)


def _excel(path: Path) -> Any:
    """The first sheet: its first row names the columns."""
    with zipfile.ZipFile(path) as book:
        names = book.namelist()
        sheet = min((name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name)), key=_number, default="")
        if not sheet or any(book.getinfo(name).file_size > LARGEST for name in (sheet, "xl/sharedStrings.xml") if name in names):
            raise ValueError("no sheet in it that can be read")
        shared: list[str] = []
        if "xl/sharedStrings.xml" in names:
            root = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
            shared = ["".join(text.text or "" for text in one.iter(f"{SHEET}t")) for one in root.iter(f"{SHEET}si")]
        rows = [_cells(row, shared) for row in ElementTree.fromstring(book.read(sheet)).iter(f"{SHEET}row")]
    header, *others = [row for row in rows if any(value not in (None, "") for value in row.values())] or [{}]
    return _frame([{str(name): row.get(place) for place, name in header.items()} for row in others])


def _cells(row: ElementTree.Element, shared: list[str]) -> dict[str, Any]:
    """The values of a row by their column's letters."""
    found: dict[str, Any] = {}
    for cell in row.iter(f"{SHEET}c"):
        value = cell.findtext(f"{SHEET}v")
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            value = "".join(text.text or "" for text in cell.iter(f"{SHEET}t"))
        elif kind == "s" and value is not None:
            value = shared[int(value)]
        found[re.sub(r"\d", "", cell.get("r", ""))] = float(value) if kind == "n" and value else value
    return found


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def _frame(rows: list[dict[str, Any]]) -> Any:
    import polars

    return polars.DataFrame(rows, infer_schema_length=None, strict=False)


READERS: dict[str, Callable[[Path], Any]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": partial(_json, lines=True),
    ".xlsx": _excel,
}
SUFFIXES = tuple(READERS)
