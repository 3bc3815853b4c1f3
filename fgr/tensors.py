"""Weight files: their tensors, read without running anything in a file, and files' digests."""

import hashlib
from pathlib import Path
from typing import Any

from fgr.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
CALLBACKS = (  # classes that Lightning's checkpoints name as keys; the restricted loader is given an empty one in their place
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
)


class _Callback:
    pass


def file_digest(file: Path | str) -> str:
    """sha256 of a file's bytes, in hexadecimal digits. UserError if it cannot be read."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"There is no file {file}.", "Check the path.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.", "Name a file that can be read.") from None


def read_tensors(file: Path, lazily: bool = False) -> dict[str, Any]:
    """The state dict (name → torch tensor, on the CPU) in a .safetensors, .pth, .pt or .ckpt file.

    Pickled objects other than tensors are refused, not run; wrappers such as `params_ema` or `state_dict` are taken off. With
    `lazily` tensors stay on the disk until they are used, for large files of which a part is wanted; the file must stay there.
    UserError: another suffix, a file that is damaged or holds anything but tensors.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file} is not a weight file by its name.", f"Name a file ending in {', '.join(SUFFIXES)}.")
    content = _safetensors(file) if file.suffix.lower() == ".safetensors" else unpickled(file, lazily)

    import torch
    from spandrel import canonicalize_state_dict

    state = canonicalize_state_dict(content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{file} holds no state dict.", "Save the network's state dict, by preference as .safetensors.")
    return dict(state)


def unpickled(file: Path, lazily: bool = False) -> Any:
    """What torch.save wrote, as long as it is tensors and plain values. UserError for anything else, which is not run."""
    import pickle
    import warnings
    import zipfile

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on foreign pickles; they are refused below
            with torch.serialization.safe_globals([(_Callback, name) for name in CALLBACKS]):
                return torch.load(file, map_location="cpu", weights_only=True, mmap=lazily and zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        foreign = any(sign in str(error) for sign in ("Unsupported global", "Unsupported class", "GLOBAL"))
        refused = "holds Python objects besides tensors; loading it could run code, so it was refused"
        raise UserError(
            f"{file} {refused}." if foreign else f"{file} is damaged or cut off, or {refused}.",
            "Save only the network's state dict, by preference as .safetensors.",
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(file, error) from None


def metadata(file: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; empty for other files. UserError if it is damaged."""
    if file.suffix.lower() != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            return dict(content.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from None


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return UserError(f"{file} is damaged or cut off ({reason[:160]}).", "Copy or download it anew.")
