"""`fgr publish`: finds out what a folder holds, packs it for the Hub, uploads it."""

from pathlib import Path

from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.publish import upload
from fgr.publish.dataset_package import pack_dataset
from fgr.publish.generator_package import pack_generator
from fgr.publish.package import Consent, Package
from fgr.publish.reward_package import pack_reward_model
from fgr.training import directory as runs


def pack(folder: Path, name: str, consent: Consent, *, write: bool) -> Package:
    """Check what `folder` holds and complete its card for the repository `name`; with `write` false nothing is changed.

    UserError: it cannot be published, it breaks a promise of the format, or a licence forbids it.
    """
    upload.check_name(name)
    kind = _kind(folder)
    if kind == "dataset":
        return pack_dataset(folder, name, consent, write=write)
    if kind == "rlhf":
        return pack_generator(folder, name, consent, write=write)
    return pack_reward_model(folder, name, write=write)


def publish(package: Package, name: str, private: bool) -> tuple[str, bool]:
    """Upload it; the repository's page and whether anything changed. Calling it again after an interruption goes on."""
    page, changed = upload.upload(
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
        return str(runs.read(folder)["kind"])
    if (folder / "config.json").is_file():
        return "reward"
    raise UserError(
        f"{folder} is neither a finished dataset nor a run: it has no fgr.json, run.json or config.json.",
        "Finish it with the command that began it, or name the --out folder of fgr generate, train-rm or rlhf.",
    )
