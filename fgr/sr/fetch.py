"""Fetching a model's weights: each file from the first of its sources that has it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fgr import downloads as download
from fgr import hub_files as hub
from fgr.errors import UserError
from fgr.sr import weights
from fgr.sr.spec import ModelSpec, parse_name
from fgr.sr.zoo import WeightFile, hub_place
from fgr.tensors import file_digest

FETCHABLE = "fetchable"


def fetch(name: str) -> list[Path]:
    """Bring the weights of `name` onto this machine and say where they are; files that are here stay as they are.

    UserError: a model without sources, a file that no source gives, another file in its place, no room on the disk.
    """
    return [file for part in parse_name(name).parts() for file in _fetch(part)]


def _fetch(spec: ModelSpec) -> list[Path]:
    if spec.kind == "spandrel":
        return [_fetch_hub_file(spec)]
    if spec.release is None:
        raise UserError(f"There is nothing to fetch for '{spec.text}'.", "Only models with published weights can be fetched.")
    return [_fetch_file(spec.text, file) for file in spec.release.files]


def ask(name: str) -> str:
    """Whether the files of `name` could be fetched now: fetchable, gated, gone, offline or unreachable; by the worst."""
    files = [_ask_file(sources) for part in parse_name(name).parts() for sources in _sources(part)]
    return next((state for state in files if state != FETCHABLE), FETCHABLE)


def _sources(spec: ModelSpec) -> list[tuple[str, ...]]:
    return [file.sources for file in spec.release.files] if spec.release else [(f"hf:{spec.path}",)]


def ask_all(names: list[str]) -> dict[str, str]:
    """`ask` for several models at once."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def _ask_file(sources: tuple[str, ...]) -> str:
    states = []
    for source in sources:
        repository = hub_place(source)
        try:
            hub.ask(*repository) if repository else download.ask(source)
        except hub.Unavailable as error:
            states.append(error.state)
        else:
            return FETCHABLE
    return states[0]


def _fetch_file(name: str, file: WeightFile) -> Path:
    there = weights.downloaded(file)
    if there is not None:
        if file.sha256 and there.name == file.name and file_digest(there) != file.sha256:
            raise UserError(f"{there} is not the released file.", "Move it away to fetch the released one, or keep it as it is.")
        return there
    target = weights.folder() / file.name
    failures = []
    for source in file.sources:
        try:
            _from(source, target, file.sha256)
        except hub.Unavailable as error:
            failures.append((source, error))
        else:
            return target
    raise _no_source(name, file, failures)


def _from(source: str, target: Path, sha256: str | None) -> None:
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


def _no_source(name: str, file: WeightFile, failures: list[tuple[str, hub.Unavailable]]) -> UserError:
    lines = [f"  {source}: {error}" for source, error in failures]
    by_hand = f"or put {file.name} into {weights.folder()} yourself."
    return UserError(
        "\n".join([f"{file.name} of '{name}' could not be fetched from any source:", *lines]), f"{_next(failures)} – {by_hand}"
    )


def _next(failures: list[tuple[str, hub.Unavailable]]) -> str:
    """What to do, by the most hopeful of the failures."""
    states = [error.state for _, error in failures]
    if hub.OFFLINE in states:
        return "Unset HF_HUB_OFFLINE"
    if hub.UNREACHABLE in states:
        return "Run the same command again: it continues where it stopped"
    if hub.GATED in states:
        return "Accept the licence on the page named above, log in with `hf auth login` and run the same command again"
    return "The sources named above are gone: choose another model"
