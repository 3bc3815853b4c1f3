"""The commands `fgr train-rm`, `fgr score` and `fgr export`."""

from pathlib import Path
from typing import Annotated

import typer

from fgr.cli.options import Data, Device, Overrides, RewardModel, Seed, load_recipe
from fgr.cli.shell import echo

Recipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe (finpercep-plus, hardened, demo).")
]


def train_rm(
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder, to make or to go on with.")],
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Train the reward model's stages RM_0 … RM_N on a dataset.

    RECIPE defaults to finpercep-plus (CLIP RN50, GPU); `fgr train-rm demo` trains a small model on a CPU. Running the
    same command again resumes. Several GPUs: accelerate launch -m fgr train-rm …
    """
    chosen = load_recipe(recipe, "reward", overrides, {"seed": seed})

    from fgr.reward.run import train_reward_model

    echo(train_reward_model(chosen, data, out, device))


def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Images, or folders of images.")],
    *,
    reward: RewardModel,
    maps: Annotated[Path | None, typer.Option(help="Folder for the maps, drawn over the images (PNG).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    tile: Annotated[int, typer.Option(help="Larger images are tiled at this many pixels; 0 = never.")] = 1024,
    draws: Annotated[
        int, typer.Option(min=0, help="Mean over so many randomised copies, for models trained so; costs as many times as much.")
    ] = 0,
    device: Device = "auto",
) -> None:
    """Score images: larger is better; the worst 1 % of the map says how bad the worst place is, 0 = clean, 1 = worst.

    Files that cannot be read are named at the end, and the exit code is 1; the others are scored.
    """
    from json import dumps

    from fgr.atomic import finite
    from fgr.cli.evaluate_commands import name_left_out
    from fgr.devices import choose_device
    from fgr.image_files import ImageFileError, expand, in_words, read_image
    from fgr.reward import score as scoring
    from fgr.reward.pretrained import load_reward_model

    files, not_images = expand(images)
    if not_images:
        echo(f"fgr: left out {in_words(not_images)}.", err=True)
    model = load_reward_model(reward, choose_device(device))
    left_out: dict[str, str] = {}
    for file in files:
        try:
            image = read_image(file)
        except ImageFileError as error:
            left_out[str(file)] = error.message
            continue
        value, map_ = scoring.score(model, image, tile, draws)
        line = {"image": str(file), "score": value, "map_mean": float(map_.mean()), "map_worst": scoring.worst(map_)}
        if maps:
            line["map"] = str(scoring.save_overlay(maps, file, image, map_))
        echo(dumps(finite(line)) if json else f"{value:.4f}  worst {line['map_worst']:.3f}  {file}")
    name_left_out(left_out)


def export(
    reward: Annotated[str, typer.Argument(metavar="DIR|ID", help="A run, one of its stages, or a reward model on the Hub.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to write: .onnx, or .pt2 (torch.export).")],
) -> None:
    """Write a reward model as a file that runs without fgr, and compare the two.

    It takes float32 images (B, 3, H, W), RGB in [0, 1], H and W multiples of what is printed, and gives score (B,) and
    map (B, 1, H, W).
    """
    from fgr.reward import export as exporting
    from fgr.reward.pretrained import load_reward_model

    model = load_reward_model(reward)
    found = exporting.export(model, file)
    differences = f"score {found['score']:.1e}, map {found['map']:.1e}"
    echo(f"{file}  sides: multiples of {model.multiple}  largest difference: {differences}")
