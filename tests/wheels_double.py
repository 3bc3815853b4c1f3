"""Wheels that tests build, a folder of them as package index, and packages as installed."""

import hashlib
import sys
import zipfile
from pathlib import Path

ANY = "py3-none-any"


def build_wheel(folder: Path, package: str, version: str, files: dict[str, bytes], tag: str = ANY) -> Path:
    """A wheel with these files, by their paths."""
    folder.mkdir(exist_ok=True)
    stem = f"{package.replace('-', '_')}-{version}"
    content = files | {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{stem}.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return folder / f"{stem}-{tag}.whl"


def use_index(monkeypatch, folder: Path | None = None, address: str = "") -> None:
    """The settings of pip: this folder of wheels and nothing else, or the index at this address."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    settings = {"PIP_INDEX_URL": address} if address else {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    for name, value in ({"PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"} | settings).items():
        monkeypatch.setenv(name, value)


def install(monkeypatch, site: Path, package: str, version: str, files: dict[str, bytes]) -> Path:
    """The files of a package in a folder that is searched before all others, with what `importlib.metadata` reads."""
    about = site / f"{package.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    for path, data in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
