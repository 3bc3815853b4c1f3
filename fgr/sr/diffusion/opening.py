"""Diffusion SR models opened by name: as an upscaler, or by themselves for a policy."""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.devices import choose_device
from fgr.errors import missing_extra
from fgr.recipe.sampling import AUTO, Sampling
from fgr.sr.diffusion import files
from fgr.sr.spec import ModelSpec

MODELS = {  # name in the zoo → module and class
    "sd-x4-upscaler": ("latent_diffusion", "X4Upscaler"),
    "ldm-sr": ("latent_diffusion", "LatentDiffusion"),
    "stablesr": ("stablesr", "StableSR"),
    "stablesr-turbo": ("stablesr", "StableSRTurbo"),
    "stablesr-768": ("stablesr", "StableSR768"),
    "resshift": ("resshift", "ResShift"),
    "resshift-s4": ("resshift", "ResShiftFour"),
    "resshift-bicubic": ("resshift", "ResShiftFour"),
    "sinsr": ("resshift", "SinSR"),
    "osediff": ("osediff", "OSEDiff"),
    "pisasr": ("pisasr", "PiSASR"),
    "invsr": ("invsr", "InvSR"),
    "s3diff": ("s3diff", "S3Diff"),
    "diffbir": ("diffbir", "DiffBIR"),
    "diffbir-v2": ("diffbir", "DiffBIR2"),
    "seesr": ("seesr", "SeeSR"),
}


def open_diffusion(
    spec: ModelSpec, *, device: str, tile: int, overlap: int, precision: str, batch: int, sampling: Sampling
) -> Any:
    """Open a diffusion model as an upscaler, with the low-rank changes of its UNet where its name has some.

    The arguments are those of `open_upscaler`, `sampling` the recipe's `inference.diffusion`. UserError: the extra is not
    installed, weights are absent, damaged, of another architecture or too large for this machine.
    """
    import torch

    from fgr.sr.diffusion import lora
    from fgr.sr.diffusion.upscaler import DiffusionUpscaler

    chosen = torch.device(choose_device(device))
    model = open_model(spec.base, sampling, chosen)
    located = files.locate(spec.base, model.settings.get("base"))
    digest, line = located.digest, located.line
    if spec.lora:
        path = Path(spec.lora).expanduser()
        own = lora.merge(model.networks["unet"], path, spec.base, digest)
        digest, line = hashlib.sha256(f"{digest} {own}".encode()).hexdigest(), f"{line} with {path.name} (sha256 {own[:16]}…)"
    return DiffusionUpscaler(
        spec.text, model, digest, located.license, line, chosen, tile=tile, overlap=overlap, precision=precision, batch=batch
    )


def open_model(name: str, sampling: Sampling, device: Any) -> Any:
    """The model `name` of the zoo, a `stepwise.DiffusionModel`, on a torch device. UserError as `open_diffusion` says."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "diffusion", f"The SR model '{name}'")
    module, kind = MODELS[name]
    family = getattr(importlib.import_module(f"fgr.sr.diffusion.{module}"), kind)
    chosen = settings_of(sampling, family.defaults)
    found = files.paths(name, chosen.get("base"))
    files.expect_room(name, found)
    return family(found, chosen, device)


def settings_of(sampling: Sampling, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one model: those that it has `defaults` for, with what `sampling` sets of them, and the seed."""
    given = {key: None if key == "prompt" and value == AUTO else value for key, value in sampling.model_dump().items()}
    return {key: default if given[key] is None else given[key] for key, default in defaults.items()} | {"seed": sampling.seed}
