"""What there is: every SR model with its licence and the state of its weights on this machine."""

from pathlib import Path
from typing import Any

from fgr.errors import UserError
from fgr.licenses import terms
from fgr.sr import check_name, fetch, known, weights
from fgr.sr.bicubic import Bicubic
from fgr.sr.diffusion import files
from fgr.sr.diffusion.releases import DIFFUSION
from fgr.sr.releases import RELEASES
from fgr.sr.settings import parts
from fgr.sr.sources import hub_file


def catalogue(names: list[str], ask: bool = False) -> list[dict[str, Any]]:
    """A row for each of `names`, or for all that are known. Weights are located and hashed, not loaded.

    `state` is here, fetchable (a source is known), or what is missing; with `ask` the sources of what is fetchable are asked, and
    it may turn out gated, gone or unreachable. UserError for names that are not known.
    """
    for name in names:
        check_name(name)
    rows = [_row(name) for name in names or known()]
    if ask:
        states = fetch.ask_all([row["name"] for row in rows if row["state"] == fetch.FETCHABLE])
        rows = [row | {"state": states.get(row["name"], row["state"])} for row in rows]
    return rows


def _row(name: str) -> dict[str, Any]:
    """The first of its networks whose weights are not here, or the first."""
    rows = [_network_row(network) for network in parts(name)]
    return next((row for row in rows if row["state"] != "here"), rows[0]) | {"name": name}


def _network_row(name: str) -> dict[str, Any]:
    kind, _, rest = name.partition(":")
    if name == "bicubic":
        return _filled(name, "interpolation", None, Bicubic.license, "here", Bicubic.weights, None, Bicubic.digest)
    if kind == "folder":
        return _outputs(name, rest)
    if name == "spandrel:PATH_OR_HUB_FILE":
        return _filled(name, "any network that spandrel knows", None, "unknown", "name a weight file", None, None, None)
    family = RELEASES[name].family if name in RELEASES else "spandrel"
    scale, license = (RELEASES[name].scale, RELEASES[name].license) if name in RELEASES else (None, "unknown")
    try:
        found = files.locate(name) if name in DIFFUSION else weights.locate(name)
        weights.check(found)
    except UserError as error:
        state = fetch.FETCHABLE if _fetchable(name) else f"absent: {error}".replace("\n", " ")
        return _filled(name, family, scale, license, state, None, None, None)
    return _filled(name, family, scale, license, "here", found.line, str(found.file), found.digest)


def _fetchable(name: str) -> bool:
    """Whether a source is known for a model that has no weights here, not even damaged ones."""
    if name in RELEASES:
        release = RELEASES[name]
        return release.wheel is None and any(files.present(file) is None for file in release.files)
    return not Path(name.partition(":")[2]).expanduser().exists() and hub_file(f"hf:{name.partition(':')[2]}") is not None


def _outputs(name: str, directory: str) -> dict[str, Any]:
    from fgr.sr.folder import Folder

    family = "outputs made elsewhere"
    if directory == "DIR":
        return _filled(name, family, None, "unknown", "name a folder", None, None, None)
    try:
        opened = Folder(name, 1)
    except UserError as error:
        return _filled(name, family, None, "unknown", f"absent: {error}".replace("\n", " "), None, None, None)
    return _filled(name, family, None, opened.license, "here", opened.weights, str(opened.folder), opened.digest)


def _filled(
    name: str, family: str, scale: int | None, license: str, state: str, line: str | None, where: str | None, digest: str | None
) -> dict[str, Any]:
    return {
        "name": name, "family": family, "scale": scale, "license": license,
        "train_on_outputs": terms(license).train_on_outputs, "redistribute": terms(license).redistribute,
        "state": state, "weights": line, "where": where, "digest": digest,
    }  # fmt: skip
