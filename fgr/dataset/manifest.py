"""`fgr.json`: what made a dataset directory and what it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fgr import atomic, records
from fgr.errors import UserError

NAME = "fgr.json"


def read(directory: Path | str) -> dict[str, Any]:
    """The manifest of a finished dataset directory. UserError if there is none or it is damaged."""
    path = Path(directory) / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        expect_finished(directory)
        why = f"it has no {NAME}" if Path(directory).is_dir() else "there is no such folder"
        raise UserError(f"{directory} is not an FGR dataset: {why}.", "Make a dataset with: fgr generate --out DIR") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(f"{path} is damaged: it is not valid JSON.", "Restore it, or make the dataset again.") from None
    if not isinstance(manifest, dict) or not {"recipe", "models", "calibration", "shards"} <= manifest.keys():
        raise UserError(f"{path} is not the manifest of an FGR dataset.", "Restore it, or make the dataset again.")
    return manifest


def expect_finished(directory: Path | str) -> None:
    """UserError if `fgr generate` began the dataset in `directory` and has not come to its end."""
    if (Path(directory) / ".fgr").is_dir() and not (Path(directory) / NAME).is_file():
        raise UserError(
            f"The dataset {directory} is not finished: it has no {NAME} yet.",
            "Run its fgr generate command again, which goes on where it stopped; or wait for it, if it is running.",
        )


def write(directory: Path | str, manifest: dict[str, Any]) -> None:
    """Write the manifest, whole or not at all."""
    atomic.write_text(Path(directory) / NAME, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def row_id(row: dict[str, Any], determinants: dict[str, Any]) -> str:
    """The `id` of a sample: a digest of everything that determines the row.

    `determinants` are the dataset-wide ones (`determinants_of` the manifest), the rest are columns of the row itself.
    """
    keys = ("source_id", "photo_id", "model", "model_digest", "scale", "mask_kind", "degradation", "inference", "seed")
    identity = {"row": {key: row[key] for key in keys}, "dataset": determinants}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def determinants_of(recipe: dict[str, Any], calibration: dict[str, Any]) -> dict[str, Any]:
    """What determines every row of a dataset alike: the settings of masks, map and severity, and the calibration.

    A map of pixel difference `l1` has the ids that it had before there were others. Where weights were does not matter: the
    calibration has their digest.
    """
    map_ = {key: value for key, value in recipe["map"].items() if key != "weights" and (key, value) != ("pixel", "l1")}
    settings = {key: recipe[key] for key in ("masks", "severity", "attempts")} | {"map": map_}
    return settings | {"calibration": calibration}


def pixel_difference_of(manifest: dict[str, Any]) -> str:
    """Which pixel difference a dataset's maps are of; before version 0.2 there was but one."""
    return str(manifest["recipe"]["map"].get("pixel", "l1"))


def lacking(manifest: dict[str, Any]) -> tuple[str, ...]:
    """The columns of `samples` that came after the version that wrote the dataset: since 0.2, recipes name `map.pixel`."""
    return () if "pixel" in manifest["recipe"]["map"] else records.ADDED["samples"]
