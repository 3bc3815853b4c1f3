"""Files that are written whole or not at all."""

import contextlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

STALE_AFTER = 3600.0  # seconds: on a shared disk another machine's temporary file may still be in use


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success flush it to the disk and rename it to `path`, on failure remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_owner()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` to `path` as JSON, whole or not at all; numbers that are not finite as null."""
    write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """A JSON value with None for every number in it that is not finite, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def write_once(path: Path | str, data: bytes) -> bytes:
    """Write `data` to `path` unless another process was first; return what `path` holds afterwards."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_owner()}.tmp")
    try:
        temporary.write_bytes(data)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        return path.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut; a no-op where the system cannot."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_stale(folder: Path, everyone: bool = False) -> None:
    """Remove temporary files left by this machine's processes that are gone, and those of any machine older than an hour.

    `everyone`: those of all machines and processes, where nobody else can be at work.
    """
    here = f".{_machine()}."
    for path in folder.rglob(".*.tmp"):
        owner, _, pid = path.name.removesuffix(".tmp").rpartition(".")
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > STALE_AFTER
            if everyone or old or (f"{owner}.".endswith(here) and pid.isdigit() and not _alive(int(pid))):
                path.unlink()


def _owner() -> str:
    return f".{_machine()}.{os.getpid()}"


def _machine() -> str:
    return platform.node().replace("/", "-") or "localhost"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
