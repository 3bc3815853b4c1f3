"""Weight files: their tensors, read without running anything in a file, and files' digests."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.errors import UserError

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
CALLBACKS = (  # classes that Lightning's checkpoints name as keys; the restricted loader is given an empty one in their place
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
)
PREFIXES = ("_orig_mod.", "module.", "netG.", "net_g.", "net.", "generator.")  # torch.compile, DataParallel, training programs
HOLDERS = ("params_ema", "state_dict_ema", "model_ema", "ema_model", "g_ema", "ema", "netG", "net_g", "generator", "g")
BOOKKEEPING = ("n_averaged",)  # what torch's AveragedModel counts beside the weights
PLAIN = ("pro",)  # plain values that belong to an architecture: Real-CUGAN's
DEEPEST = 4  # dicts in dicts
SHOWN_KEYS = 4
NOT_WEIGHTS = {  # how a file begins → what it is, what to do
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "Fetch the file with `git lfs pull`, or download it."),
    b"<!doctype html": ("a web page, not weights", "Download the file itself, not the page that shows it."),
    b"<html": ("a web page, not weights", "Download the file itself, not the page that shows it."),
    b"<?xml": ("an answer in XML, not weights", "Download the file itself: the server answered with a message."),
}


class _Callback:
    pass


def file_digest(file: Path | str) -> str:
    """sha256 of a file's bytes, in hexadecimal digits. UserError if it cannot be read."""
    _expect_regular(Path(file))
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"There is no file {file}.", "Check the path.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from None


def read_tensors(file: Path, lazily: bool = False) -> dict[str, Any]:
    """The state dict (name → torch tensor, on the CPU) in a .safetensors, .pth, .pt or .ckpt file.

    Pickled objects other than tensors are refused, not run; wrappers such as `params_ema`, `state_dict`, `module.` or
    `_orig_mod.` are taken off, and numbers of an optimiser's or of an average's beside the tensors are left out. With `lazily`
    tensors stay on the disk until they are used, for large files of which a part is wanted; the file must stay there.
    UserError: another suffix, a file that is damaged or holds anything but tensors.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file} does not have the name of a weight file.", f"Name a file ending in {', '.join(SUFFIXES)}.")
    content = _safetensors(file) if file.suffix.lower() == ".safetensors" else unpickled(file, lazily)

    state = unwrapped(content) if isinstance(content, dict) else {}
    if not state:
        has = f": its keys are {first_keys(content)}" if isinstance(content, dict) and content else ""
        raise UserError(f"{file} holds no state dict{has}.", "Save the network's state dict, preferably as .safetensors.")
    return state


def unwrapped(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The tensors of a network in what a training program saved, under the names that the network gives them; or none."""
    import torch

    found: Mapping[Any, Any] = content
    for _ in range(DEEPEST):
        found = _inner(found)
    tensors = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
    kept = {key: value for key, value in tensors.items() if key.rpartition(".")[2] not in BOOKKEEPING}
    plain = {key: torch.tensor(found[key]) for key in PLAIN if isinstance(found.get(key), bool | int | float)}
    while prefix := next((one for one in PREFIXES if kept and all(key.startswith(one) for key in kept)), ""):
        kept = {key.removeprefix(prefix): value for key, value in kept.items()}
    return kept | plain if kept else {}


def _inner(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """What a training program's dict holds the network in; the dict itself if that is it."""
    from spandrel import canonicalize_state_dict

    texts = {key: value for key, value in content.items() if isinstance(key, str)}
    inner = canonicalize_state_dict(texts)
    if inner.keys() != texts.keys():
        return inner
    return next((texts[name] for name in HOLDERS if isinstance(texts.get(name), Mapping)), texts)


def first_keys(names: Iterable[Any]) -> str:
    """The first keys of a state dict as a list in words, cut short."""
    every = [str(name)[:48] for name in names]
    return ", ".join(every[:SHOWN_KEYS]) + (f" and {len(every) - SHOWN_KEYS} more" if len(every) > SHOWN_KEYS else "")


def non_finite(state: Mapping[str, Any]) -> list[str]:
    """Names of the tensors that hold values which are not finite."""
    return [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]


def unpickled(file: Path, lazily: bool = False) -> Any:
    """What torch.save wrote, as long as it is tensors and plain values. UserError for anything else, which is not run."""
    import pickle
    import warnings
    import zipfile

    import torch

    _expect_weights(file)
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
            "Save only the network's state dict, preferably as .safetensors.",
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(file, error) from None


def metadata(file: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; empty for other files. UserError if it is damaged."""
    if file.suffix.lower() != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    _expect_weights(file)
    try:
        with safe_open(file, "pt") as content:
            return dict(content.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from None


def write_tensors(file: Path, state: Mapping[str, Any], about: Mapping[str, str]) -> None:
    """Write tensors and what is said of them as safetensors, whole or not at all; equal content gives equal bytes.

    The library writes the words of the metadata in an order that differs from process to process: here they are sorted.
    """
    from safetensors.torch import save

    data = save(dict(state), dict(about))
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    words = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    words += b" " * (-len(words) % 8)
    atomic.write_bytes(file, len(words).to_bytes(8, "little") + words + data[8 + size :])


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _expect_weights(file)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from None


def _expect_weights(file: Path) -> None:
    """UserError for what downloads often leave in a weight file's place, and for pipes and devices, which may never end."""
    _expect_regular(file)
    try:
        with open(file, "rb") as stream:
            begins = stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return  # the reader says why
    for sign, (what, hint) in NOT_WEIGHTS.items():
        if begins.startswith(sign):
            raise UserError(f"{file} is {what}.", hint)


def _expect_regular(file: Path) -> None:
    if file.exists() and not file.is_file() and not file.is_dir():
        raise UserError(f"{file} is not a regular file.", "Name a file.")


def _damaged(file: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return UserError(f"{file} is damaged or cut off ({reason[:160]}).", "Copy or download it again.")
