"""Upscalers by diffusion: StableSR and its kin, on building blocks of diffusers (extra `fgr[diffusion]`).

A model is a class (see `runner.Restorer`) with its `defaults`: what can be set of it, and the value where the recipe sets none.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.errors import missing_extra
from fgr.recipe.sampling import Sampling
from fgr.sr.spec import ModelSpec

MODELS = {  # name in the table of releases → module and class
    "sd-x4-upscaler": ("pipelines", "X4Upscaler"),
    "ldm-sr": ("pipelines", "LatentDiffusion"),
    "stablesr": ("stablesr", "StableSR"),
    "stablesr-turbo": ("stablesr", "StableSRTurbo"),
    "resshift": ("resshift", "ResShift"),
    "resshift-s4": ("resshift", "ResShiftFour"),
    "resshift-bicubic": ("resshift", "ResShiftFour"),
    "osediff": ("osediff", "OSEDiff"),
    "diffbir": ("diffbir", "DiffBIR"),
    "seesr": ("seesr", "SeeSR"),
}


def open_diffusion(
    spec: ModelSpec, *, device: str, tile: int, overlap: int, precision: str, batch: int, sampling: Sampling
) -> Any:
    """Open a diffusion model, with the low-rank changes of its UNet where its name has some.

    The arguments are those of `open_upscaler`, `sampling` the recipe's `inference.diffusion`. UserError: the extra is not
    installed, weights are absent, damaged, of another architecture or too large for this machine.
    """
    import torch

    from fgr.devices import choose_device
    from fgr.sr.diffusion import files, runner

    assert spec.release is not None
    chosen = torch.device(choose_device(device))
    restorer = open_restorer(spec.base, sampling, chosen)
    located = files.locate(spec.base, restorer.knobs.get("base"))
    digest, line = located.digest, located.line
    if spec.lora:
        from fgr.sr.diffusion import lora

        path = Path(spec.lora).expanduser()
        own = lora.merge(restorer.networks["unet"], path, spec.base, digest)
        digest, line = hashlib.sha256(f"{digest} {own}".encode()).hexdigest(), f"{line} with {path.name} (sha256 {own[:16]}…)"
    return runner.Diffusion(
        spec.text,
        restorer,
        digest,
        located.license,
        line,
        spec.release.scale,
        chosen,
        tile,
        overlap,
        precision,
        batch,
    )


def open_restorer(name: str, sampling: Sampling, device: Any) -> Any:
    """The model `name` by itself (see `runner.Restorer`) on a torch device. UserError as `open_diffusion` says."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "diffusion", f"The SR model '{name}'")
    from fgr.sr.diffusion import files

    module, kind = MODELS[name]
    family = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    chosen = settings_of(sampling, family.defaults)
    found = files.paths(name, chosen.get("base"))
    files.expect_room(name, found)
    return family(found, chosen, device)


def settings_of(sampling: Sampling, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one model: those that it has `defaults` for, with what `sampling` sets of them, and the seed."""
    given = sampling.model_dump()
    return {key: default if given[key] is None else given[key] for key, default in defaults.items()} | {"seed": sampling.seed}
