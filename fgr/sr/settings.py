"""Settings as part of a model's name: NAME@KEY=VALUE@KEY=VALUE is the network NAME, run in another way.

tile=64 · overlap=8 · precision=bf16    in place of the recipe's `inference`
passes=2                                the output, made as small as the input was, is restored once more
denoise=0.5                             realesr-general alone: 1 removes noise, 0 keeps it; between them the weights of
                                        realesr-general and realesr-general-wdn are mixed (Wang et al., Deep Network
                                        Interpolation, CVPR 2019)
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from fgr.errors import UserError, nearest
from fgr.sr.diffusion import MARK
from fgr.sr.diffusion.releases import DIFFUSION
from fgr.sr.jobs import Job, Upscaler
from fgr.sr.weights import Loaded

SETTINGS: dict[str, tuple[Callable[[str], Any], Callable[[Any], bool], str]] = {  # how to read one, what it may be, in words
    "tile": (int, lambda value: value >= 0, "a whole number of pixels, 0 for whole images"),
    "overlap": (int, lambda value: value >= 0, "a whole number of pixels"),
    "precision": (str, lambda value: value in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    "passes": (int, lambda value: 1 <= value <= 4, "a whole number from 1 to 4"),
    "denoise": (float, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
}
SAMPLING: dict[str, tuple[Callable[[str], Any], Callable[[Any], bool], str]] = {  # the same, of diffusion models
    "prompt": (str, lambda value: True, "a text"),
    "negative_prompt": (str, lambda value: True, "a text"),
    "steps": (int, lambda value: 1 <= value <= 1000, "a whole number from 1 to 1000"),
    "guidance": (float, lambda value: value >= 0, "a number from 0 on"),
    "noise_level": (int, lambda value: 0 <= value <= 350, "a whole number from 0 to 350"),
    "cfw": (float, lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "color_fix": (str, lambda value: value in ("none", "adain", "wavelet"), "none, adain or wavelet"),
    "latent_tile": (int, lambda value: value >= 8, "a whole number from 8 on"),
    "latent_overlap": (int, lambda value: value >= 0, "a whole number from 0 on"),
    "base": (str, lambda value: value != "", "a folder or ORG/REPOSITORY"),
    "seed": (int, lambda value: value >= 0, "a whole number from 0 on"),
}
STRONG, WEAK = "realesr-general", "realesr-general-wdn"  # what `denoise` mixes
WRITTEN = re.compile(r"(.+)@([A-Za-z_]+)=([^@=]*)")


def split(name: str) -> tuple[str, dict[str, Any]]:
    """The network's name and the settings in it. UserError: an unknown setting, one twice, a value that it cannot have."""
    base, settings = name, {}
    while match := WRITTEN.fullmatch(base):
        base, key, text = match.groups()
        if key in settings:
            raise UserError(f"The SR model '{name}' sets {key} twice.", "Leave one of them out.")
        settings[key] = _read(name, key, text)
    if settings and base.startswith("folder:"):
        raise UserError(f"Outputs made elsewhere have no settings ('{name}').", f"Write {base}.")
    if "denoise" in settings and base != STRONG:
        raise UserError(f"'{base}' has no setting denoise.", f"Only {STRONG} has: {STRONG}@denoise=0.5.")
    sampling = [key for key in settings if key in SAMPLING]
    if sampling and base.partition(MARK)[0] not in DIFFUSION:
        raise UserError(f"'{base}' has no setting {sampling[-1]}.", f"Only diffusion models have: {', '.join(DIFFUSION)}.")
    return base, dict(reversed(settings.items()))


def parts(name: str) -> list[str]:
    """The networks whose weights `name` needs."""
    base, settings = split(name)
    base = base.partition(MARK)[0]
    return [base, WEAK] if "denoise" in settings else [base]


def _read(name: str, key: str, text: str) -> Any:
    known = SETTINGS | SAMPLING
    if key not in known:
        raise UserError(
            f"The SR model '{name}' has an unknown setting '{key}'{nearest(key, list(known))}",
            f"Write NAME@KEY=VALUE; known: {', '.join(known)}.",
        )
    read, fits, words = known[key]
    try:
        value = read(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise UserError(f"The SR model '{name}' sets {key} to '{text}'.", f"It must be {words}.")
    return value


def merged(
    given: Mapping[str, Any], passes: int, sampling: Mapping[str, Any] | None, own: Mapping[str, Any]
) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """What `own`, the settings in a name, make of the recipe's: settings of any network, passes, knobs of diffusion models."""
    plain = {key: own.get(key, value) for key, value in given.items()}
    return plain, own.get("passes", passes), dict(sampling or {}) | {key: own[key] for key in own if key in SAMPLING}


def expect_known(opened: Upscaler, own: Mapping[str, Any]) -> None:
    """UserError if a diffusion model was given a setting that it does not have."""
    has = opened.settings().get("diffusion", {})
    lacking = [key for key in own if key in SAMPLING and key not in has]
    if lacking:
        raise UserError(f"'{opened.name}' has no setting {lacking[0]}.", f"Of diffusion it has: {', '.join(has)}.")


def mixed(strong: Loaded, weak: Loaded, share: float) -> Loaded:
    """share · strong + (1 − share) · weak, tensor by tensor. UserError if the two are not of one network."""
    if {name: value.shape for name, value in strong.state.items()} != {name: value.shape for name, value in weak.state.items()}:
        raise UserError(
            f"{strong.found.file} and {weak.found.file} do not hold one network: they cannot be mixed.", "Fetch them anew."
        )
    digest = hashlib.sha256(f"{share!r} {strong.found.digest} {weak.found.digest}".encode()).hexdigest()
    line = f"{share:g} of {strong.found.line}; {1 - share:g} of {weak.found.line}"
    state = {name: value * share + weak.state[name] * (1 - share) for name, value in strong.state.items()}
    return Loaded(replace(strong.found, digest=digest, line=line), state)


class Repeated:
    """An upscaler whose output is made as small as the input was, by area, and restored again, until it ran `passes` times."""

    def __init__(self, once: Upscaler, passes: int) -> None:
        self._once, self._passes = once, passes
        self.name, self.digest, self.scale, self.license = once.name, once.digest, once.scale, once.license
        self.weights, self.external = once.weights, once.external

    def settings(self) -> dict[str, Any]:
        return self._once.settings() | {"passes": self._passes}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        results = self._once.upscale(jobs)
        for _ in range(self._passes - 1):
            jobs = [replace(job, image=_reduced(result, job.image)) for job, result in zip(jobs, results, strict=True)]
            results = self._once.upscale(jobs)
        return results


def _reduced(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(image, like.shape[1::-1], interpolation=cv2.INTER_AREA)
