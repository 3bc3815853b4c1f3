"""A dataset directory as a package for the Hub: licences, promises, card, files."""

import hashlib
import json
from collections import Counter
from pathlib import Path

from fgr import atomic, records
from fgr.dataset import card, manifest, tables
from fgr.dataset.verify import verify
from fgr.errors import UserError, notice
from fgr.publish.package import CARD, Consent, Package, path_warnings
from fgr.publish.sharing import expect_shareable, maker_of_images

VERIFIED = ".verified"  # digest of the files of which every promise held: an interrupted upload goes on without checking again
SHOWN = 10


def pack_dataset(directory: Path, name: str, consent: Consent, *, write: bool) -> Package:
    """Check the dataset and complete its card (unless not `write`, then nothing is changed) for the repository `name`.

    UserError: no finished dataset, a broken promise, terms that forbid it.
    """
    content = manifest.read(directory)
    warnings = expect_shareable([maker_of_images(one) for one in content["models"]], "images made with it", consent)
    files = [f"{table}/{file.name}" for table in records.TABLES for file in tables.shards(directory, table)]
    _verify(directory, files)
    warnings += _photographs(card.licenses(directory), consent)
    warnings += path_warnings("Card and fgr.json", [str(content["recipe"]["source"]["path"]), *content["recipe"]["models"]])
    text = card.text(directory, name)
    if write:
        atomic.write_text(directory / CARD, text)
    return Package(
        "dataset", f"a dataset of {tables.count_rows(directory, 'samples')} samples", directory,
        [CARD, manifest.NAME, *files], [f"{table}/*.parquet" for table in records.TABLES], warnings, text,
    )  # fmt: skip


def _photographs(licenses: Counter[str], consent: Consent) -> list[str]:
    unknown = sum(count for name, count in licenses.items() if name.strip().lower() in ("", "unknown"))
    if not unknown:
        return []
    if consent.public and not consent.vouched:
        raise UserError(
            f"The photographs of {unknown} rows have no known licence, and they would be public.",
            "State it with source.license or metadata.csv, or, if you have the right to publish them, add --vouch.",
        )
    return [f"The photographs of {unknown} rows have no known licence: make sure that you may pass them on."]


def _verify(directory: Path, files: list[str]) -> None:
    digest = _digest(directory, files)
    path = directory / VERIFIED
    if path.is_file() and path.read_text(encoding="utf-8").strip() == digest:
        return
    notice(f"checking every row of {len(files)} files …")
    problems = [str(problem) for problem in verify(directory)]
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(
            f"{directory} breaks {len(problems)} promise{'s' if len(problems) > 1 else ''}:",
            "Make the dataset again; `fgr verify` lists everything.",
            [*problems[:SHOWN], *more],
        )
    atomic.write_text(path, digest + "\n")


def _digest(directory: Path, files: list[str]) -> str:
    """Of what can be checked, by names, sizes and times: hashing everything again would take as long as checking it."""
    stats = {name: (directory / name).stat() for name in [manifest.NAME, *files]}
    listed = {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
