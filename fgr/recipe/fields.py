"""What the recipes' models share: frozen, no unknown keys; shares and weights as types; scores."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
MixedPrecision = Annotated[  # YAML reads a bare `no` as false
    Literal["no", "bf16", "fp16"], BeforeValidator(lambda value: "no" if value is False else value)
]
PERCEPTUAL = ("lpips", "lite0-distance")  # metrics of fgr.metrics.registry: distances that serve as an anchor
DISTANCES = (*PERCEPTUAL, "dists")  # and those that serve in the audit
SCORES = ("clipiqa",)  # metrics of fgr.metrics.registry that serve as S_base, as a reward and in the audit, beside pyiqa's


class Strict(BaseModel):
    """A part of a recipe: it cannot be changed; a key that it does not have and a number that is none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def is_encoder(name: str) -> bool:
    """Whether a network of timm, whose features give a distance, is called so: timm:NAME."""
    kind, _, network = name.partition(":")
    return kind == "timm" and bool(network) and "/" not in network


def is_score(name: str) -> bool:
    """Whether a no-reference metric is called so: one of SCORES, or pyiqa:NAME."""
    kind, _, metric = name.partition(":")
    return name in SCORES or (kind == "pyiqa" and bool(metric))
