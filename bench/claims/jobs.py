"""What jobs do: photographs, datasets, reward models, tuning runs. Each fills the folder `out`; fgr does the work."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.claims import judging, localising
from fgr import atomic
from fgr import recipe as recipes
from fgr.errors import UserError

Needs = Mapping[str, Path]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


def photographs(out: Path, needs: Needs, device: str, source: str, parts: Mapping[str, int]) -> None:
    """Copy the photographs of `source` into a folder a part, in shares, in the order of their files' sha256."""
    files = [path for path in Path(source).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES]
    by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(files)}
    if len(by_digest) < sum(part > 0 for part in parts.values()) * 2:
        raise UserError(f"{source} holds {len(by_digest)} photographs.", "Give a folder with at least two for each part.")
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


def view(out: Path, needs: Needs, device: str, validation: float) -> None:
    """A dataset directory of splits that lie elsewhere, each whole in its folder's split `train`; of the rows of `train` the
    last share `validation` of the photographs becomes the split of that name."""
    from fgr.dataset import tables

    files = []
    for split, folder in needs.items():
        rows = list(tables.read_rows(folder, "samples"))
        photos = sorted({row["photo_id"] for row in rows})
        kept = max(1, len(photos) - max(1, round(validation * len(photos)))) if validation and split == "train" else len(photos)
        for name, chosen in ((split, photos[:kept]), ("validation", photos[kept:])):
            part = [row for row in rows if row["photo_id"] in set(chosen)]
            if part:
                path = f"samples/{name}-00000-of-00001.parquet"
                tables.write_table(out / path, "samples", part)
                files.append({"split": name, "path": path})
    card = json.dumps({"configs": [{"config_name": "samples", "data_files": files}]})
    atomic.write_text(out / "README.md", f"---\n{card}\n---\n")


def trained(out: Path, needs: Needs, device: str, recipe: str, changes: Mapping[str, Any]) -> None:
    """`fgr train-rm`."""
    from fgr.reward.run import train_reward_model

    train_reward_model(recipes.load(recipe, "reward", (), changes), str(needs["data"]), out, device)
    (out / "checkpoint.pt").unlink(missing_ok=True)


def reversed_stages(out: Path, needs: Needs, device: str) -> None:
    """The stages of a reward model numbered the other way round: a curriculum begins with the last."""
    from fgr.reward.pretrained import stages_of

    for number, folder in enumerate(reversed(stages_of(needs["reward"]))):
        shutil.copytree(folder, out / f"stage-{number}", dirs_exist_ok=True)


def tuned(
    out: Path, needs: Needs, device: str, generator: str, recipe: str, changes: Mapping[str, Any], crops: int, crop: int,
    pictures: int,
) -> None:  # fmt: skip
    """`fgr rlhf`, audited by the gold reward model and by RM_N on the test crops; then the last network judged there.

    A run that breaks is kept as it is, its sentence in judged.json: that is a result.
    """
    from fgr.reward.pretrained import resolve
    from fgr.rlhf.run import tune

    judges = [str(resolve(needs[name])) for name in ("gold", "yardstick")]
    fixed = {"audit.rewards": judges, "audit.planted": 0}  # in this protocol every figure has a vote
    chosen = recipes.load(recipe, "rlhf", (), dict(changes) | fixed)
    try:
        tune(chosen, generator, str(needs["reward"]), str(needs["data"]), out, device)
    except UserError as error:
        if not (out / "metrics.jsonl").is_file():
            raise
        write(out / "judged.json", {"failed": str(error).splitlines()[0]})
        return
    judge = judging.Judge(needs, generator, chosen, crops, crop, device)
    write(out / "judged.json", judge.judge(out / "last.safetensors", out / "pictures", pictures))
    for name in ("checkpoint.pt", "best.safetensors"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "examples", ignore_errors=True)


def maps(out: Path, needs: Needs, device: str, rows: int, baselines: bool, pictures: int) -> None:
    """A reward model's maps and scores on rows of the test set."""
    found = localising.records(needs["reward"], needs["data"], rows, baselines, device, out / "pictures", pictures)
    write(out / "rows.json", {"rows": found})


def instruments(
    out: Path, needs: Needs, device: str, generator: str, recipe: str, changes: Mapping[str, Any], crops: int, crop: int,
    mixtures: list[float], area: list[float],
) -> None:  # fmt: skip
    """Whether the yardsticks measure: mixtures of reference and output, planted defects; and the untuned network's figures."""
    judge = judging.Judge(needs, generator, recipes.load(recipe, "rlhf", (), changes), crops, crop, device)
    write(out / "instruments.json", {"mixtures": judge.mixtures(mixtures), "planted": judge.planted(*area)})


def attacked(
    out: Path, needs: Needs, device: str, generator: str, recipe: str, changes: Mapping[str, Any], crops: int, crop: int,
    attack: Mapping[str, Any],
) -> None:  # fmt: skip
    """Gradient ascent on the input of RM_0 and RM_N."""
    judge = judging.Judge(needs, generator, recipes.load(recipe, "rlhf", (), changes), crops, crop, device)
    write(out / "attack.json", judge.attack(out / "pictures", **attack))


def write(path: Path, content: Any) -> None:
    """JSON, whole or not at all."""
    atomic.write_text(path, json.dumps(content, indent=1) + "\n")


JOBS: dict[str, Callable[..., None]] = {
    "photographs": photographs, "generated": generated, "view": view, "trained": trained, "reversed_stages": reversed_stages,
    "tuned": tuned, "maps": maps, "instruments": instruments, "attacked": attacked,
}  # fmt: skip
