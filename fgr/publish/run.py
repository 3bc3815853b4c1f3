"""`fgr publish`: looks at what a folder is, prepares it, uploads it."""

import json
from pathlib import Path

from fgr.dataset import hub, manifest
from fgr.errors import UserError
from fgr.publish import dataset, generator, reward
from fgr.publish.package import Consent, Package


def prepare(folder: Path, name: str, consent: Consent, *, write: bool) -> Package:
    """Check what `folder` holds and complete its card for the repository `name`; with `write` false nothing is changed.

    UserError: nothing that can be published, or it does not keep its promises, or terms that forbid it.
    """
    hub.check_name(name)
    kind = _kind(folder)
    if kind == "dataset":
        return dataset.prepare(folder, name, consent, write=write)
    if kind == "rlhf":
        return generator.prepare(folder, name, consent, write=write)
    return reward.prepare(folder, name, write=write)


def publish(package: Package, name: str, private: bool) -> tuple[str, bool]:
    """Upload it; the repository's page and whether anything changed. Calling it again after an interruption goes on."""
    page, changed = hub.upload(
        package.folder, name, package.kind, package.files, package.stale, private, f"Publish {package.what} with fgr"
    )
    if package.beside:
        changed |= publish(package.beside, name, private)[1]
    return page, changed


def _kind(folder: Path) -> str:
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name a dataset directory, or the folder of a run.")
    if (folder / manifest.NAME).is_file():
        return "dataset"
    if (folder / "run.json").is_file():
        try:
            return str(json.loads((folder / "run.json").read_text(encoding="utf-8")).get("kind"))
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
            raise UserError(f"{folder / 'run.json'} is damaged.", "Restore it.") from None
    if (folder / "config.json").is_file():
        return "reward"
    raise UserError(
        f"{folder} is neither a finished dataset nor a run: it has no fgr.json, run.json or config.json.",
        "Finish it with the command that began it, or name the --out of fgr generate, train-rm or rlhf.",
    )
