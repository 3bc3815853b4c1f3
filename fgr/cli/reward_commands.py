"""The commands `fgr train-rm`, `fgr score` and `fgr export`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgr.cli.options import Data, Device, Overrides, RewardModel, Seed, load_recipe
from fgr.cli.shell import echo
from fgr.shipped import REWARD_MODEL

if TYPE_CHECKING:
    import numpy as np

    from fgr.reward.score import ScoredImage

Recipe = Annotated[
    str | None,
    typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe (finpercep-plus, people, demo, …)."),
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

    from fgr.api import train_reward_model

    echo(train_reward_model(chosen, data, out, device=device))


def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Images, or folders of images.")],
    *,
    reward: RewardModel = REWARD_MODEL,
    maps: Annotated[Path | None, typer.Option(help="Folder for the maps, drawn over the images with a colour bar (PNG).")] = None,
    raw_maps: Annotated[Path | None, typer.Option(help="Folder for the maps as 16-bit grey PNG, value / 65535.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, as they come.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the ranked table here as CSV.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page here: images and maps, ranked; opens offline.")] = None,
    tile: Annotated[int, typer.Option(help="Larger images are tiled at this many pixels; 0 = never.")] = 1024,
    draws: Annotated[
        int, typer.Option(min=0, help="Mean over so many randomised copies, for models trained so; costs as many times as much.")
    ] = 0,
    device: Device = "auto",
) -> None:
    """Score images: larger is better; the worst 1 % of the map says how bad the worst place is, 0 = clean, 1 = worst.

    Several images come as a table, the best first. What the figures mean is said below it. Files that cannot be read are named
    at the end, and the exit code is 1; the others are scored.
    """
    from fgr.cli.evaluate_commands import name_left_out
    from fgr.devices import choose_device
    from fgr.image_files import expand, in_words
    from fgr.reward import ranking, score_scale
    from fgr.reward.pretrained import load_reward_model

    files, not_images = expand(images)
    if not_images:
        echo(f"fgr: left out {in_words(not_images)}.", err=True)
    model = load_reward_model(reward, choose_device(device))
    pictures: dict[str, tuple[str, str]] | None = {} if html else None
    found, left_out = ranking.score_files(model, files, tile, draws, _keeper(maps, raw_maps, json, pictures))
    ordered, notes = ranking.ranked(found), score_scale.explanation(model.score_scale)
    if not json:
        for line in ranking.lines(ordered) if len(files) > 1 else (ranking.line(one) for one in ordered):
            echo(line)
        for note in notes if ordered else ():
            echo(f"  {note}", err=True)
    if csv:
        ranking.write_csv(csv, ordered)
    if html and pictures is not None:
        from fgr.report import score_page

        count = f"{len(ordered)} image{'s' * (len(ordered) != 1)}"
        score_page.write(html, f"{count} by {reward}", ordered, pictures, notes)
    name_left_out(left_out)


def _keeper(
    maps: Path | None, raw_maps: Path | None, json: bool, pictures: dict[str, tuple[str, str]] | None
) -> "Callable[[Path, np.ndarray, ScoredImage, dict[str, Any]], None]":
    """What is done with each image at once: its maps are written, its JSON printed, its pictures kept for the page."""
    from json import dumps

    from fgr.atomic import finite
    from fgr.reward import score as scoring

    def keep(file: Path, image: "np.ndarray", found: "ScoredImage", record: dict[str, Any]) -> None:
        if maps:
            record["map"] = str(scoring.save_overlay(maps, file, image, found.map))
        if raw_maps:
            record["raw_map"] = str(scoring.save_map(raw_maps, file, found.map))
        if json:
            echo(dumps(finite(record)))
        if pictures is not None:
            from fgr.report.score_page import thumbnail

            pictures[str(file)] = thumbnail(image), thumbnail(scoring.overlay(image, found.map))

    return keep


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
