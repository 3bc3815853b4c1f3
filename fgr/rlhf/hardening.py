"""`fgr train-rm` with mined rounds: train, tune policies against the model, mine their outputs, again.

OUT/.fgr/round-K/reward        the reward model of round K, trained, or trained on, with what the rounds before it mined; none
                               of round 0 where the recipe begins with a model, which is then the one that is tuned against
OUT/.fgr/round-K/tuned-N       the N-th network, tuned against it for a short time
OUT/.fgr/round-K/mined.parquet the tuned networks' outputs beside the untuned ones', with their maps
OUT                            the reward model, trained with everything that was mined
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fgr import recipe as recipes
from fgr.dataset.tables import evenly_drawn
from fgr.errors import UserError, notice
from fgr.progress import Progress
from fgr.recipe.reward import RewardRecipe
from fgr.recipe.rlhf import RlhfRecipe
from fgr.reward import mined, splits
from fgr.reward.pretrained import folder_of, load_reward_model, save_reward_model, stages_of
from fgr.reward.run import train_reward_model
from fgr.rlhf import inputs
from fgr.rlhf.policies import open_policy
from fgr.rlhf.refresh import CompositeMaker
from fgr.rlhf.run import tune
from fgr.sr import Job, open_upscaler, parse_name

LAST = "last.safetensors"  # of a tuning run: the network that went furthest
SHARES = (0.5, 1.0, 1.5)  # of a network's change, in turn: what it passed through, what it made, and where it was going
DRAWS = 4  # randomised copies that a model is tuned against which was trained on such


def train_hardened(recipe: RewardRecipe, data: str, out: Path, device: str = "auto") -> Path:
    """Train a reward model in `recipe.mined.rounds` rounds and once more; the last stage's folder. The same call again resumes.

    UserError as `train_reward_model` and `tune` raise it, and for a dataset without its fgr.json, by which outputs get labels.
    """
    files: list[Path] = []
    expect_tunable(recipe, data)
    folders = [out / ".fgr" / f"round-{number}" for number in range(recipe.mined.rounds)]
    attacked = [str(folder / "reward") for folder in folders]
    if recipe.begin:  # it is what the first round is tuned against
        attacked[0] = recipe.begin
    for number, (folder, reward) in enumerate(zip(folders, attacked, strict=True)):
        file = folder / "mined.parquet"
        if not file.is_file():
            notice(f"Round {number + 1} of {len(folders)}: train, tune and mine, then train again.")
            if reward != recipe.begin:
                before = attacked[number - 1] if number and recipe.mined.steps else None
                train_reward_model(_of_round(recipe, number), data, Path(reward), device, files, before)
            runs = list(_tuned(recipe, number, reward, data, folder, device))
            mined.write(file, _outputs(recipe, data, runs, device))
        files.append(file)
    before = attacked[-1] if recipe.mined.steps else None
    others = [folder / "reward" for folder in folders[len(folders) + 1 - recipe.mined.average :]]
    last = train_reward_model(_of_round(recipe, len(folders)), data, out, device, files, before, others)
    if before:
        _keep_earlier_stages(folder_of(attacked[0]), out)
    return last


def _of_round(recipe: RewardRecipe, number: int) -> RewardRecipe:
    """The recipe of a round's training: from the second on, where these go on from the model before, a shorter last stage."""
    if not number or not recipe.mined.steps:
        return recipe
    return recipe.model_copy(update={"stages": (*recipe.stages[:-1], recipe.mined.steps)})


def _keep_earlier_stages(first: Path, out: Path) -> None:
    """Put the stages that only the first training has beside the last one: a curriculum needs all of them."""
    for stage in stages_of(first):
        if not (out / stage.name).is_dir():
            save_reward_model(load_reward_model(stage), out / stage.name)


def expect_tunable(recipe: RewardRecipe, data: str) -> None:
    """UserError, before anything is trained, for what the rounds would stumble over later."""
    if not (Path(data) / "fgr.json").is_file():
        raise UserError(
            f"{data} is not a dataset directory with its fgr.json, by which the outputs of tuned networks get their maps.",
            "Download the dataset, or set mined.rounds=0.",
        )
    if not splits.has_sr_map(splits.open_split(data, "train")):
        raise UserError(
            f"{data} has no sr_map, the maps of whole restored images that tuned outputs are held against.",
            "Make a dataset with this version of fgr generate, or set mined.rounds=0.",
        )
    for number in range(recipe.mined.rounds):
        for changes in recipe.mined.adversaries_of(number):
            tuning_recipe(recipe, number, changes)
    for name in recipe.mined.generators:
        policy = open_policy(parse_name(name))
        inputs.open_inputs(data, "train", policy.scale)


def tuning_recipe(recipe: RewardRecipe, number: int, changes: Sequence[str]) -> RlhfRecipe:
    """How an adversary of a round is tuned: directly on the last stage, whatever the audit says; each round has its seed."""
    fixed = {"curriculum.schedule": "none", "audit.on_hacking": "continue", "seed": recipe.seed + number}
    draws = [f"reward.draws={DRAWS}"] if recipe.training.randomize else []
    tuned: RlhfRecipe = recipes.load("demo", "rlhf", [*draws, *recipe.mined.tune, *changes], fixed)
    return tuned


def _tuned(recipe: RewardRecipe, number: int, reward: str, data: str, folder: Path, device: str) -> Iterator[tuple[str, Path]]:
    """The name of each network and the folder of its tuning, one by one."""
    pairs = itertools.product(recipe.mined.generators, recipe.mined.adversaries_of(number))
    for place, (generator, changes) in enumerate(pairs):
        run = folder / f"tuned-{place}"
        tune(tuning_recipe(recipe, number, changes), generator, reward, data, run, device)
        yield generator, run


def _outputs(recipe: RewardRecipe, data: str, runs: Sequence[tuple[str, Path]], device: str) -> Iterator[dict[str, bytes]]:
    """Rows of each tuned network's outputs, of inputs spread over the training split."""
    from fgr.devices import choose_device

    chosen = choose_device(device)
    labels = CompositeMaker(Path(data), chosen)
    with Progress("mining", recipe.mined.images * len(runs), "images") as progress:
        for name, run in runs:
            named = {"start": name, "tuned": f"spandrel:{run / LAST}"}
            upscalers = {which: open_upscaler(model, scale=None, device=chosen) for which, model in named.items()}
            pairs = inputs.open_inputs(data, "train", upscalers["start"].scale)
            for position, index in enumerate(evenly_drawn(len(pairs), recipe.mined.images)):
                low, reference = pairs[int(index)]
                job = Job(low, "", reference.shape[:2], (0, 0, len(reference)))
                outputs = {which: upscaler.upscale([job])[0] for which, upscaler in upscalers.items()}
                outputs["tuned"] = _scaled(outputs["start"], outputs["tuned"], SHARES[position % len(SHARES)])
                maps = {f"{which}_map": labels.whole_map(reference, image) for which, image in outputs.items()}
                progress.advance()
                yield mined.encoded(outputs | {"reference": reference}, maps)


def _scaled(start: np.ndarray, tuned: np.ndarray, share: float) -> np.ndarray:
    """uint8 images: `start`, changed by a share of what makes it `tuned`."""
    return np.clip(np.rint(start + share * (tuned.astype(np.float32) - start)), 0, 255).astype(np.uint8)
