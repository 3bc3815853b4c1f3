"""What can be set of a diffusion model's sampling, and what holds where nothing is set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

ColorFix = Literal["none", "adain", "wavelet"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """The recipe's `inference.diffusion`. None: the model's own default; knobs that a model does not have are passed over."""

    prompt: str | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    noise_level: int | None = None
    cfw: float | None = None
    color_fix: ColorFix | None = None
    latent_tile: int | None = None
    latent_overlap: int | None = None
    base: str | None = None
    seed: int = 0


def resolve(given: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of one model: those of `defaults`, with what `given` sets of them, and the seed."""
    chosen = asdict(Knobs(**(given or {})))
    return {key: default if chosen[key] is None else chosen[key] for key, default in defaults.items()} | {"seed": chosen["seed"]}
