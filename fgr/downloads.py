"""Downloads of single files that resume where one broke off, and the folder that weights go to.

pooch begins a broken download anew, so this is our own.
"""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from fgr import __version__, atomic
from fgr.errors import UserError
from fgr.hub_files import GATED, GONE, OFFLINE, UNREACHABLE, Unavailable, first_line, offline
from fgr.progress import Progress
from fgr.tensors import file_digest

ATTEMPTS = 4
PAUSE = 2.0  # seconds before the second attempt; doubled for each further one
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20
STATES = {401: GATED, 403: GATED, 404: GONE, 410: GONE}
TOO_MANY, RANGE_REFUSED, PARTIAL = 429, 416, 206


def weights_folder() -> Path:
    """Where weights are looked for and kept: FGR_WEIGHTS, or fgr/weights in the user's cache."""
    chosen = os.environ.get("FGR_WEIGHTS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "fgr" / "weights"


def download(address: str, target: Path, sha256: str | None) -> None:
    """Fetch `address` to `target`, which appears only when it is whole and, where `sha256` is known, right.

    What arrived stays beside it as `.NAME.….part` for the next run. Unavailable: nothing there, forbidden, no connection after
    several attempts, another file than `sha256` says. UserError: no room on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{hashlib.sha256((sha256 or address).encode()).hexdigest()[:12]}.part")
    for attempt in range(ATTEMPTS):
        resumed = partial.is_file() and partial.stat().st_size > 0
        try:
            _go_on(address, partial)
        except Unavailable as error:
            if error.state != UNREACHABLE or attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE * 2**attempt)
            continue
        found = file_digest(partial)
        if not sha256 or found == sha256:
            os.replace(partial, target)
            atomic.sync_folder(target.parent)
            return
        partial.unlink()
        if not resumed:  # a file that was continued may have changed in between: once more from the start
            raise other_file(found, sha256)
    raise Unavailable(UNREACHABLE, "the connection broke too often")


def ask(address: str) -> None:
    """Nothing if `address` answers. Unavailable."""
    with _opened(address, 0, "HEAD"):
        pass


def other_file(found: str, sha256: str) -> Unavailable:
    """The failure of a source whose file is not the released one."""
    return Unavailable(GONE, f"another file is there now: its sha256 is {found[:16]}…, expected {sha256[:16]}…")


def _go_on(address: str, partial: Path) -> None:
    """Append to `partial` until it is whole. Unavailable if it does not become so."""
    have = partial.stat().st_size if partial.is_file() else 0
    with _opened(address, have) as answer:
        if answer.status == RANGE_REFUSED:  # nothing is missing, or the file there is shorter than ours
            if answer.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
                partial.unlink()
                raise Unavailable(UNREACHABLE, "the file there has changed")
            return
        if answer.status != PARTIAL:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        _expect_room(partial, (total or 0) - have)
        _copy(answer, partial, have, total)
    if total is not None and partial.stat().st_size != total:
        raise Unavailable(UNREACHABLE, f"the connection broke after {partial.stat().st_size} of {total} bytes")


def _copy(answer: Any, partial: Path, have: int, total: int | None) -> None:
    megabytes = 0
    with (
        open(partial, "ab" if have else "wb") as file,
        Progress(_name(partial), (total or 0) >> 20, "MB") as progress,
    ):
        progress.advance(have >> 20)
        megabytes = have >> 20
        while block := _read(answer):
            file.write(block)
            arrived = file.tell() >> 20
            progress.advance(arrived - megabytes)
            megabytes = arrived


def _name(partial: Path) -> str:
    return partial.name[1:].rsplit(".", 2)[0]


def _read(answer: Any) -> bytes:
    try:
        return answer.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(UNREACHABLE, f"the connection broke: {first_line(error)}") from None


def _opened(address: str, have: int, method: str = "GET") -> Any:
    if offline():
        raise Unavailable(OFFLINE, "HF_HUB_OFFLINE forbids the network")
    headers = {"User-Agent": f"fgr/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers, method=method), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == RANGE_REFUSED:
            return error
        with error:
            if error.code == TOO_MANY:
                raise Unavailable(UNREACHABLE, "the server wants a pause: too many downloads (429)") from None
            raise Unavailable(STATES.get(error.code, UNREACHABLE), f"the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise Unavailable(UNREACHABLE, first_line(getattr(error, "reason", None) or error)) from None


def _expect_room(partial: Path, missing: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if missing > free:
        raise UserError(
            f"{partial.parent} has {free >> 20} MB free, but {missing >> 20} MB of {_name(partial)} are still to come.",
            "Free some space, or name a folder on another disk in FGR_WEIGHTS.",
        )
