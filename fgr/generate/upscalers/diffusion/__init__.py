"""Upscalers by diffusion: StableSR and its kin, on building blocks of diffusers (extra `fgr[diffusion]`).

A model is a class (see `runner.Restorer`) with its `defaults`: what can be set of it, and the value where the recipe sets none.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from fgr.errors import missing_extra
from fgr.generate.upscalers.diffusion.releases import DIFFUSION

MODELS = {  # name in the table of releases → module and class
    "sd-x4-upscaler": ("pipelines", "X4Upscaler"),
    "ldm-sr": ("pipelines", "LatentDiffusion"),
    "stablesr": ("stablesr", "StableSR"),
    "stablesr-turbo": ("stablesr", "StableSRTurbo"),
    "resshift": ("resshift", "ResShift"),
    "resshift-s4": ("resshift", "ResShiftFour"),
    "resshift-bicubic": ("resshift", "ResShiftFour"),
}


def open_diffusion(
    name: str, *, device: str, tile: int, overlap: int, precision: str, batch: int, knobs: Mapping[str, Any] | None
) -> Any:
    """Open the diffusion model `name`; the arguments are those of `open_upscaler`, `knobs` the recipe's `inference.diffusion`.

    UserError: the extra is not installed, weights are absent, damaged, of another architecture or too large for this machine.
    """
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "diffusion", f"The SR model '{name}'")
    from fgr.generate.upscalers.diffusion import files, runner
    from fgr.generate.upscalers.diffusion import knobs as settings
    from fgr.generate.upscalers.network import open_device

    module, kind = MODELS[name]
    family = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    located, found = files.locate(name), files.paths(name)
    files.expect_room(name, found)
    chosen = open_device(device)
    restorer = family(found, settings.resolve(knobs, family.defaults), chosen)
    return runner.Diffusion(
        name,
        restorer,
        located.digest,
        located.license,
        located.line,
        DIFFUSION[name].scale,
        chosen,
        tile,
        overlap,
        precision,
        batch,
    )
