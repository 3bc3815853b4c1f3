"""What there is: every SR model with its licence and the state of its weights on this machine."""

from typing import Any

from fgr.errors import UserError
from fgr.generate.upscalers import check_name, known, weights
from fgr.generate.upscalers.bicubic import Bicubic
from fgr.generate.upscalers.releases import RELEASES


def catalogue(names: list[str]) -> list[dict[str, Any]]:
    """A row for each of `names`, or for all that are known. Weights are located and hashed, not loaded.

    UserError for names that are not known; absent weights are a state, not an error.
    """
    for name in names:
        check_name(name)
    return [_row(name) for name in names or known()]


def _row(name: str) -> dict[str, Any]:
    kind, _, rest = name.partition(":")
    if name == "bicubic":
        return _filled(name, "interpolation", None, Bicubic.license, "ready", Bicubic.weights, None, Bicubic.digest)
    if kind == "folder":
        return _outputs(name, rest)
    if name == "spandrel:PATH":
        return _filled(name, "any network that spandrel knows", None, "the file's own", "name a weight file", None, None, None)
    family = RELEASES[name].family if name in RELEASES else "spandrel"
    scale, license = (RELEASES[name].scale, RELEASES[name].license) if name in RELEASES else (None, "unknown")
    try:
        found = weights.locate(name)
        weights.check(found)
    except UserError as error:
        return _filled(name, family, scale, license, f"absent: {error}".replace("\n", " "), None, None, None)
    return _filled(name, family, scale, license, "ready", found.line, str(found.file), found.digest)


def _outputs(name: str, directory: str) -> dict[str, Any]:
    from fgr.generate.upscalers.folder import Folder

    family = "outputs made elsewhere"
    if directory == "DIR":
        return _filled(name, family, None, "the outputs' own", "name a folder", None, None, None)
    try:
        opened = Folder(name, 1)
    except UserError as error:
        return _filled(name, family, None, "unknown", f"absent: {error}".replace("\n", " "), None, None, None)
    return _filled(name, family, None, opened.license, "ready", opened.weights, str(opened.folder), opened.digest)


def _filled(
    name: str, family: str, scale: int | None, license: str, state: str, line: str | None, where: str | None, digest: str | None
) -> dict[str, Any]:
    return {
        "name": name, "family": family, "scale": scale, "license": license, "state": state, "weights": line, "where": where,
        "digest": digest,
    }  # fmt: skip
