"""What jobs do: photographs, datasets, reward models, tuning runs. Each fills the folder `out`; fgr does the work."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.claims import judging, localising
from bench.claims.protocol import ARMS
from fgr import atomic
from fgr import recipe as recipes
from fgr.errors import UserError

Needs = Mapping[str, Path]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


def photographs(out: Path, needs: Needs, device: str, source: str, parts: Mapping[str, int]) -> None:
    """Copy the photographs of `source` into a folder a part, in the order of their files' sha256: at least as many as the parts
    ask for, more in proportion."""
    files = [path for path in Path(source).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES]
    by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(files)}
    if len(by_digest) < sum(parts.values()):
        raise UserError(
            f"{source} holds {len(by_digest)} different photographs, the plan needs {sum(parts.values())}.",
            "docs/photos.md says where photographs are found.",
        )
    shares = dealt(sorted(by_digest), parts)
    for part, digests in shares.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        for digest in digests:
            path = by_digest[digest]
            shutil.copyfile(path, out / part / f"{digest[:16]}{path.suffix.lower()}")
    atomic.write_text(out / "photographs.json", json.dumps(shares, indent=1) + "\n")


def dealt(items: list[str], parts: Mapping[str, int]) -> dict[str, list[str]]:
    """`items` cut into consecutive pieces by the shares of `parts`."""
    found, at, before = {}, 0, 0
    for part, share in parts.items():
        before += share
        end = round(len(items) * before / sum(parts.values()))
        found[part], at = items[at:end], end
    return found


def generated(out: Path, needs: Needs, device: str, part: str, recipe: str, changes: Mapping[str, Any]) -> None:
    """`fgr generate` on the photographs of a part, by one worker; as many samples as crops, models and composites make."""
    from fgr.generate.run import generate

    folder = needs["photographs"] / part
    chosen = recipes.load(recipe, "generate", (), dict(changes) | {"source.path": str(folder), "samples": 1})
    most = len(list(folder.iterdir())) * chosen.source.crops_per_photo * len(chosen.models) * chosen.masks.composites
    generate(chosen.model_copy(update={"samples": most}), out, workers=1, device=device)


def folded(out: Path, needs: Needs, device: str, fold: int, folds: int) -> None:
    """A dataset directory of the rows of `data`: every `folds`-th photograph from number `fold` on validates, the rest trains."""
    from fgr.dataset import tables

    rows = list(tables.read_rows(needs["data"], "samples"))
    left_out = set(sorted({row["photo_id"] for row in rows})[fold::folds])
    validation = [row for row in rows if row["photo_id"] in left_out]
    _write_view(out, {"train": [row for row in rows if row["photo_id"] not in left_out], "validation": validation})


def joined(out: Path, needs: Needs, device: str) -> None:
    """A dataset directory of splits that lie elsewhere, each whole in its folder's split `train`."""
    from fgr.dataset import tables

    _write_view(out, {split: list(tables.read_rows(folder, "samples")) for split, folder in needs.items()})


def _write_view(out: Path, splits: Mapping[str, list[dict[str, Any]]]) -> None:
    from fgr.dataset import tables

    files = []
    for split, rows in splits.items():
        path = f"samples/{split}-00000-of-00001.parquet"
        tables.write_table(out / path, "samples", rows)
        files.append({"split": split, "path": path})
    card = json.dumps({"configs": [{"config_name": "samples", "data_files": files}]})
    atomic.write_text(out / "README.md", f"---\n{card}\n---\n")


def trained(out: Path, needs: Needs, device: str, recipe: str, changes: Mapping[str, Any]) -> None:
    """`fgr train-rm`."""
    from fgr.reward.run import train_reward_model

    train_reward_model(recipes.load(recipe, "reward", (), changes), str(needs["data"]), out, device)
    (out / "checkpoint.pt").unlink(missing_ok=True)


def reversed_stages(out: Path, needs: Needs, device: str) -> None:
    """The stages of a reward model before the last numbered the other way round: a curriculum begins with the finest of them."""
    from fgr.reward.pretrained import stages_of

    *before, last = stages_of(needs["reward"])
    for number, folder in enumerate([*reversed(before), last]):
        shutil.copytree(folder, out / f"stage-{number}", dirs_exist_ok=True)


def tuned(out: Path, needs: Needs, device: str, generator: str, recipe: str, changes: Mapping[str, Any]) -> None:
    """`fgr rlhf`, the unit's R_N beside it as a yardstick on the test crops where the trained reward is not on the same scale.

    A run that breaks is kept as it is, its sentence in ended.json: that is a result.
    """
    from fgr.reward.pretrained import resolve
    from fgr.rlhf.run import tune

    beside = {"audit.rewards": [str(resolve(needs["yardstick"]))]} if "yardstick" in needs else {}
    chosen = recipes.load(recipe, "rlhf", (), dict(changes) | beside)
    ended = None
    try:
        tune(chosen, generator, str(needs["reward"]), str(needs["data"]), out, device)
    except UserError as error:
        if not (out / "metrics.jsonl").is_file():
            raise
        ended = str(error).splitlines()[0]
    write(out / "ended.json", {"failed": ended})
    for name in ("checkpoint.pt", "best.safetensors"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "examples", ignore_errors=True)


def judged(
    out: Path, needs: Needs, device: str, generator: str, recipe: str, changes: Mapping[str, Any], crops: int, crop: int,
    figures: list[str], planted: int, pictures: int,
) -> None:  # fmt: skip
    """The networks of a unit's arms on the test crops, at one distance from the untuned one and where they ended."""
    chosen = recipes.load(recipe, "rlhf", (), changes)
    judge = judging.Judge(needs, generator, chosen, judging.Measuring(crops, crop, tuple(figures), planted), device)
    networks = {arm: needs[arm] / "last.safetensors" for arm in ARMS if arm in needs}
    write(out / "judged.json", judge.judged({arm: path for arm, path in networks.items() if path.is_file()}))
    judge.draw(networks, out / "pictures", pictures)


def maps(out: Path, needs: Needs, device: str, rows: int, pictures: int) -> None:
    """A reward model's maps on rows of the test set."""
    found = localising.records(needs["reward"], needs["data"], rows, device, out / "pictures", pictures)
    write(out / "rows.json", {"rows": found})


def write(path: Path, content: Any) -> None:
    """JSON, whole or not at all."""
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


JOBS: dict[str, Callable[..., None]] = {
    "photographs": photographs, "generated": generated, "folded": folded, "joined": joined, "trained": trained,
    "reversed_stages": reversed_stages, "tuned": tuned, "judged": judged, "maps": maps,
}  # fmt: skip
