"""Train the reward model that ships anew, beside the one that is in the package: `make reward`.

    python -m bench.fgr_lite [--source PHOTOGRAPHS | --data DATASET] [--seed N] [--out out/fgr-lite] [--device auto]
        [--train KEY=VALUE…] [--ship]

A dataset is made by the recipe `fgr-lite` (or DATASET is taken), a model trained on it by the recipe of that name and on by
`fgr-lite-hardened`, and the weights halved to 16 bits. The new model, its twin that was not hardened and the shipped one are then
judged on the validation split. With --train mined.rounds=6 mined.harder_rounds=2 to resist is not a matter of the seed (see
docs/reward.md). Run again, it goes on where it stopped. --ship puts the new model into the package, with the twin as the judge of
audits.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import fgr
from bench.environment import describe
from fgr import atomic
from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.generate.run import generate
from fgr.reward import score_scale
from fgr.reward.evaluate import evaluate_reward_model
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import SHIPPED_FOLDER, load_reward_model, resolve, save_reward_model
from fgr.shipped import REWARD_MODEL
from fgr.training import directory

JUDGED = 200  # rows at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="photographs; those inside scikit-image and scikit-learn if not given")
    parser.add_argument("--data", type=Path, help="a dataset that is there already")
    parser.add_argument("--seed", type=int, help="of the weights and samples; the recipes' own if not given")
    parser.add_argument("--out", type=Path, default=Path("out/fgr-lite"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--train", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the reward recipe")
    parser.add_argument("--ship", action="store_true", help=f"replace {SHIPPED_FOLDER.name} in the package")
    chosen = parser.parse_args()
    try:
        run(chosen)
    except UserError as error:
        raise SystemExit(f"{error}") from None


def run(chosen: argparse.Namespace) -> None:
    """All that is missing, then the comparison."""
    data = chosen.data or chosen.out / "data"
    if not (data / "fgr.json").is_file():
        source = {"source.path": str(chosen.source)} if chosen.source else {}
        generate(recipes.load("fgr-lite", "generate", extra=source), data, workers=chosen.workers, device=chosen.device)
    seeded = {} if chosen.seed is None else {"seed": chosen.seed}
    recipe = recipes.load("fgr-lite", "reward", chosen.train, seeded | {"mined.rounds": 0, "mined.harder_rounds": 0})
    seed = recipe.seed
    twin = chosen.out / f"run-{seed}"
    fgr.train_reward_model(recipe, data, twin, device=chosen.device)
    hardened = recipes.load("fgr-lite-hardened", "reward", chosen.train, seeded | {"begin": str(twin)})
    trained = fgr.train_reward_model(hardened, data, chosen.out / f"hardened-{seed}", device=chosen.device)
    folder = chosen.out / f"model-{seed}"
    packed(trained, folder)
    packed(resolve(twin), folder / "judge")
    print(describe("torch", "timm"))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(f"{folder}: {size:.1f} MB")
    models = {"new": str(folder), "its twin, not hardened": str(folder / "judge")}
    models |= {"shipped": REWARD_MODEL} if SHIPPED_FOLDER.is_dir() else {}
    for line in comparison({name: evaluate_reward_model(model, str(data), "validation", JUDGED, chosen.device)
                            for name, model in models.items()}):  # fmt: skip
        print(line)
    if chosen.ship:
        shutil.copytree(folder, SHIPPED_FOLDER, dirs_exist_ok=True, ignore=shutil.ignore_patterns("README.md"))


def packed(stage: Path, folder: Path) -> None:
    """Write a run's stage as it ships: weights in 16 bits, the scale of its scores, the recipe without this machine's paths."""
    save_reward_model(halved(load_reward_model(stage)), folder)
    shutil.copy(stage / score_scale.NAME, folder)
    trained = directory.read(stage.parent)
    trained["recipe"]["begin"] = None  # a folder of this machine
    atomic.write_json(folder / "run.json", trained)


def halved(model: FinPercepRM) -> FinPercepRM:
    """The model with its weights in 16 bits; statistics and scales, which are few, stay in 32."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half()
    return model


def comparison(found: dict[str, dict[str, Any]]) -> list[str]:
    """A table of the models' figures on the validation split."""
    lines = ["| model | AP | CC | triplets | mean map of sham rows |", "|---|---|---|---|---|"]
    for name, summary in found.items():
        maps = summary["maps"]["model"]
        figures = (maps["ap"], maps["cc"], summary["triplets"]["model"]["accuracy"], summary["empty"]["sham"]["mean"])
        lines.append(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    return lines


if __name__ == "__main__":
    main()
