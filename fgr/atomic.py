"""Files that are written whole or not at all, and folders that one process at a time works on."""

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from fgr.errors import notice

LOOK_AGAIN = 0.3  # seconds between looks at a lock
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


def copy(path: Path, to: Path) -> None:
    """Let `to` be what `path` is now, whole or not at all: a second name where the disk knows those, a copy elsewhere."""
    temporary = to.with_name(f".{to.name}{_owner()}.tmp")
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, to)
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


@contextlib.contextmanager
def alone(folder: Path, what: str, name: str = "lock") -> Iterator[None]:
    """Within, no other process is in the block for the same folder and name; waits for one that is, saying so on stderr.

    A lock on FOLDER/.NAME, which machines that share a disk see too; it goes with the process that holds it, however that
    ends. Without locks, on a disk that knows none or that is read-only, nothing is waited for.
    """
    handle = _locked(folder / f".{name}", what)
    try:
        yield
    finally:
        if handle is not None:
            (folder / f".{name}").unlink(missing_ok=True)
            os.close(handle)


def _locked(path: Path, what: str) -> int | None:
    """A handle that holds the lock on `path`; None where there are no locks."""
    told = False
    while True:
        try:
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (ImportError, OSError):
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                return handle
        except BlockingIOError:
            if not told:
                holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
                notice(f"{holder} is at work on {what}; waiting for it to end.")
            told = True
            time.sleep(LOOK_AGAIN)
        except OSError:
            os.close(handle)
            return None
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


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
    here = f".{machine()}."
    for path in folder.rglob(".*.tmp"):
        owner, _, pid = path.name.removesuffix(".tmp").rpartition(".")
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > STALE_AFTER
            if everyone or old or (f"{owner}.".endswith(here) and pid.isdigit() and not _alive(int(pid))):
                path.unlink()


def _owner() -> str:
    return f".{machine()}.{os.getpid()}"


@functools.cache
def machine() -> str:
    """A name for where process ids mean the same: this start of this machine, this container.

    Host names alone do not tell: containers often share one, and a process id of one is another process in the other.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"{(platform.node().replace('/', '-') or 'localhost')[:40]}-{digest}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
