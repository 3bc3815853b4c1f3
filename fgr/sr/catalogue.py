"""The rows of `fgr models`: every SR model with its licence and the state of its weights."""

from collections.abc import Sequence
from typing import Any

from fgr import backbone_weights
from fgr.errors import UserError
from fgr.licenses import terms_of
from fgr.sr import fetch, weights
from fgr.sr.costs import cost
from fgr.sr.diffusion import files
from fgr.sr.release import WeightFile, home
from fgr.sr.spec import PLACES, PLANTED, ModelSpec, known_names, parse_name
from fgr.sr.upscalers import Bicubic

UNPINNED = "not pinned: no sha256 is on record; the newest revision on the Hub is taken"


def catalogue(names: list[str], ask: bool = False) -> list[dict[str, Any]]:
    """A row for each of `names`, or for all that are known. Weights are located and hashed, not loaded.

    `state` is here, fetchable (a source is known), or what is missing; with `ask` the sources of what is fetchable are asked, and
    it may turn out gated, gone, unreachable or, in part, to be brought by hand. UserError for names that are not known.
    """
    specs = [name if name.startswith(backbone_weights.KIND) else parse_name(name) for name in names or known_names()]
    rows = [_backbone_row(spec) if isinstance(spec, str) else _row(spec) for spec in specs]
    if ask:
        states = fetch.ask_all([row["name"] for row in rows if row["state"] == fetch.FETCHABLE])
        rows = [row | {"state": states.get(row["name"], row["state"])} for row in rows]
    return rows


def _backbone_row(text: str) -> dict[str, Any]:
    name = text.removeprefix(backbone_weights.KIND)
    backbone_weights.expect_known(name)
    family, license = "a backbone for encoder.name and map.features", backbone_weights.license_of(name)
    try:
        found = backbone_weights.here(name)
        source = home(backbone_weights.source(name))
    except UserError as error:
        return _filled(text, family, None, license, f"absent: {error}".replace("\n", " "), None, None, None)
    about = {"from": source, "pinned": None if name in backbone_weights.PACKAGED else UNPINNED}
    if found is None:
        return _filled(text, family, None, license, fetch.FETCHABLE, None, None, None) | about
    return _filled(text, family, None, license, "here", found.origin, str(found.file), found.digest) | about


def _row(spec: ModelSpec) -> dict[str, Any]:
    """The first of its networks whose weights are not here, or the first."""
    rows = [_part_row(part) for part in spec.parts()]
    return next((row for row in rows if row["state"] != "here"), rows[0]) | {"name": spec.text}


def _part_row(spec: ModelSpec) -> dict[str, Any]:
    name, release = spec.text, spec.release
    if spec.kind == "bicubic":
        return _filled(name, "interpolation", None, Bicubic.license, "here", Bicubic.weights, None, Bicubic.digest)
    if spec.kind == "planted":
        return _planted(spec)
    if spec.kind == "folder":
        return _outputs(spec)
    if name == PLACES["spandrel"]:
        return _filled(name, "any network that spandrel knows", None, "unknown", "name a weight file", None, None, None)
    family, license = (release.family, release.license) if release else ("spandrel", "unknown")
    try:
        found = files.locate(name) if spec.kind == "diffusion" else weights.locate(spec)
    except UserError as error:
        state = fetch.FETCHABLE if _fetchable(spec, error) else f"absent: {error}".replace("\n", " ")
        return _filled(name, family, spec.scale, license, state, None, None, None) | _about(spec, state)
    state = fetch.FETCHABLE if spec.kind == "diffusion" and files.lacks_words(name) else "here"
    row = _filled(name, family, spec.scale, license, state, found.line, str(found.file), found.digest)
    return row | _about(spec, state, found.origin)


def _about(spec: ModelSpec, state: str, origin: str = "") -> dict[str, Any]:
    """Where weights come from – for those that are here a package, for others the sources – and the row's note."""
    release = spec.release
    if release is None:
        return {"pinned": UNPINNED if spec.on_hub else None}
    ncnn = (release.ncnn.tensors,) if release.ncnn else ()
    homes = dict.fromkeys(home(source) for file in (*release.all_files, *ncnn) for source in file.sources)
    return {
        "from": origin or None if state == "here" else ", ".join(homes),
        "note": release.note or None,
        "cost": cost(spec.base),
        "pinned": _pinned(release.all_files),
    }


def _pinned(listed: Sequence[WeightFile]) -> str | None:
    """How many of a release's files are taken whatever their bytes are: no sha256 is on record. None if there are none."""
    free = [file.name for file in listed if not file.sha256]
    return f"not pinned: {len(free)} of {len(listed)} files have no sha256 on record, such as {free[0]}" if free else None


def _fetchable(spec: ModelSpec, error: UserError) -> bool:
    """Whether a source is known for a model that has no weights here, not even damaged ones."""
    if spec.release and spec.release.is_diffusion:
        return any(files.present(file) is None for file in spec.release.files if file.sources)
    return isinstance(error, weights.Absent) or spec.on_hub is not None


def _planted(spec: ModelSpec) -> dict[str, Any]:
    from fgr.sr.planted import PlantedDefect, digest

    family = "a defect drawn into references; fgr generate alone"
    if spec.text == PLANTED:
        return _filled(spec.text, family, None, PlantedDefect.license, "name a kind", None, None, None)
    return _filled(spec.text, family, None, PlantedDefect.license, "here", PlantedDefect.weights, None, digest(spec.path))


def _outputs(spec: ModelSpec) -> dict[str, Any]:
    from fgr.sr.folder import Folder

    name, family = spec.text, "outputs made elsewhere"
    if name == PLACES["folder"]:
        return _filled(name, family, None, "unknown", "name a folder", None, None, None)
    try:
        opened = Folder(name, spec.path, 1)
    except UserError as error:
        return _filled(name, family, None, "unknown", f"absent: {error}".replace("\n", " "), None, None, None)
    return _filled(name, family, None, opened.license, "here", opened.weights, str(opened.folder), opened.digest)


def _filled(
    name: str, family: str, scale: int | None, license: str, state: str, line: str | None, where: str | None, digest: str | None
) -> dict[str, Any]:
    return {
        "name": name, "family": family, "scale": scale, "license": license,
        "train_on_outputs": terms_of(license).train_on_outputs, "redistribute": terms_of(license).redistribute,
        "state": state, "from": None, "weights": line, "where": where, "digest": digest,
        "pinned": None, "note": None, "cost": None,
    }  # fmt: skip
