"""`open_upscaler`: opens an SR model by its name; bicubic interpolation and repeated passes."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fgr.errors import UserError
from fgr.recipe.generate import Inference
from fgr.recipe.sampling import Sampling
from fgr.records import PLANTED_KINDS
from fgr.sr.jobs import Job, Upscaler
from fgr.sr.spec import DENOISE_WEAK, WITHOUT_NETWORK, ModelSpec, parse_name

DEFAULTS = Inference()  # the recipe's


def open_upscaler(
    name: str, *, scale: int | None, device: str = "cpu", tile: int = DEFAULTS.tile, overlap: int = DEFAULTS.overlap,
    precision: str = "fp32", batch: int = DEFAULTS.batch, compile: bool = DEFAULTS.compile, passes: int = 1,
    denoise: float | None = None, diffusion: Sampling | Mapping[str, Any] = DEFAULTS.diffusion,
) -> Upscaler:  # fmt: skip
    """Open the SR model `name` (see `spec`) for `scale`, or for the only factor that it has.

    `tile` (0 = whole) and `overlap` are in low-resolution pixels; `batch` is ignored on the CPU, where images run one by one
    so that their bytes do not depend on their neighbours. `precision` is as in the recipe's `inference`, but fp32 where nothing
    is said. `passes` and `denoise` are as in `spec`, `diffusion` as in the recipe's
    `inference.diffusion`; what `name` says of any setting holds. Thread counts are the caller's: torch.set_num_threads. `compile`
    is of networks alone.
    UserError: unknown name, weights absent or damaged or of another network, another scale, settings that cannot work.
    """
    spec = parse_name(name)
    own = spec.settings
    passes = own.get("passes", passes)
    if "denoise" in own or denoise is None:
        denoise = spec.denoise
    given: dict[str, Any] = {"tile": tile, "overlap": overlap, "precision": precision}
    chosen = {key: own.get(key, value) for key, value in given.items()}
    if spec.kind in WITHOUT_NETWORK:
        opened = _without_network(spec, scale)
    elif spec.kind == "diffusion":
        opened = _diffusion(spec, scale, device, batch=batch, sampling=Sampling(**dict(diffusion) | spec.sampling), **chosen)
    else:
        opened = _network(spec, scale, device, batch=batch, denoise=denoise, compile=compile, **chosen)
    return Repeated(opened, passes) if passes > 1 else opened


def _without_network(spec: ModelSpec, scale: int | None) -> Upscaler:
    if scale is None:
        raise UserError(f"'{spec.text}' has no scale of its own.", "Name one.")
    if spec.kind == "bicubic":
        return Bicubic(scale, spec.text)
    if spec.kind == "planted":
        from fgr.sr.planted import PlantedDefect

        if spec.path not in PLANTED_KINDS:
            raise UserError(f"'{spec.text}' names no kind of defect.", f"Known: {', '.join(PLANTED_KINDS)}.")
        return PlantedDefect(spec.text, spec.path, scale)
    from fgr.sr.folder import Folder

    return Folder(spec.text, spec.path, scale)


def _diffusion(spec: ModelSpec, scale: int | None, device: str, *, sampling: Sampling, **how: Any) -> Upscaler:
    from fgr.sr.diffusion.opening import open_diffusion

    assert spec.scale is not None
    if scale is not None:
        _expect_scale(spec, scale)
    opened: Upscaler = open_diffusion(spec, device=device, sampling=sampling, **how)
    has = opened.settings()["diffusion"]
    lacking = [key for key in spec.sampling if key not in has]
    if lacking:
        raise UserError(f"'{spec.base}' has no setting {lacking[0]}.", f"Of diffusion it has: {', '.join(has)}.")
    return opened


def _network(spec: ModelSpec, scale: int | None, device: str, *, denoise: float | None, **how: Any) -> Upscaler:
    from fgr.sr import network, weights

    found = weights.locate(spec)
    if scale is not None:
        _expect_scale(spec, scale)
    loaded = weights.load(found)
    if denoise is not None and denoise != 1:
        loaded = weights.mixed(loaded, weights.load(weights.locate(parse_name(DENOISE_WEAK))), denoise)
    return network.Network(spec.text, loaded, scale, device, denoise=denoise, **how)


def _expect_scale(spec: ModelSpec, wanted: int) -> None:
    from fgr.sr.network import wrong_scale

    if spec.scale is not None and spec.scale != wanted:
        raise wrong_scale(spec.model, spec.scale, wanted)


class Bicubic:
    """The baseline: bicubic interpolation, as Pillow does it, by any whole factor."""

    digest = hashlib.sha256(b"bicubic interpolation, Pillow, a = -0.5").hexdigest()
    license = "none"
    weights = "no weights: interpolation by Pillow"
    external = False

    def __init__(self, scale: int, name: str = "bicubic") -> None:
        self.name, self.scale = name, scale

    def settings(self, index: int = 0) -> dict[str, Any]:
        return {"tile": 0, "overlap": 0, "precision": "fp32"}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        return [self._one(job.image) for job in jobs]

    def _one(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        size = (width * self.scale, height * self.scale)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


class Repeated:
    """An upscaler whose output is made as small as the input was, by area, and restored again, until it ran `passes` times."""

    def __init__(self, once: Upscaler, passes: int) -> None:
        self._once, self._passes = once, passes
        self.name, self.digest, self.scale, self.license = once.name, once.digest, once.scale, once.license
        self.weights, self.external = once.weights, once.external

    def settings(self, index: int = 0) -> dict[str, Any]:
        return self._once.settings(index) | {"passes": self._passes}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        results = self._once.upscale(jobs)
        for _ in range(self._passes - 1):
            prompts = [self._once.settings(index).get("diffusion", {}).get("prompt") for index in range(len(jobs))]
            jobs = [
                replace(job, image=_reduced(result, job.image), prompt=prompt)
                for job, result, prompt in zip(jobs, results, prompts, strict=True)
            ]
            results = self._once.upscale(jobs)
        return results


def _reduced(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(image, like.shape[1::-1], interpolation=cv2.INTER_AREA)
