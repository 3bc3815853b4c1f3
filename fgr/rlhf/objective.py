"""What a policy climbs and what holds it back. Pure: float tensors (B, 3, H, W), images in [0, 1].

L = − w · R(G(y)) + Σ anchors. The reward enters by its gradient at the output, so that rewards can be faded into one another and
measured against the anchor where they act.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

DISTANCES: dict[str, Distance] = {
    "l1": lambda a, b: (a - b).abs().mean(),
    "l2": lambda a, b: (a - b).square().mean(),
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """Weights of the terms that hold the policy; see the recipe's `anchor`."""

    distance: str = "l1"
    start: float = 1.0
    reference: float = 0.0
    low_frequency: float = 0.0
    low_frequency_to: Literal["start", "reference"] = "start"
    low_frequency_size: int = 8
    consistency: float = 0.0
    lpips: float = 0.0

    @property
    def needs_reference(self) -> bool:
        """Whether a term compares with the reference."""
        return bool(self.reference or (self.low_frequency and self.low_frequency_to == "reference"))


def anchor_terms(
    anchor: Anchor, output: torch.Tensor, low: torch.Tensor, start: torch.Tensor, reference: torch.Tensor | None,
    perceptual: Distance | None = None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The weighted terms by name, each a scalar: those of weight 0 are left out.

    `low` is the input (B, 3, h, w), `start` the untuned network's output. ValueError if a term needs a reference and there is
    none, or LPIPS and `perceptual` is none.
    """
    if anchor.needs_reference and reference is None:
        raise ValueError("the anchor compares with the reference, and there is none")
    distance = DISTANCES[anchor.distance]
    terms: dict[str, torch.Tensor] = {}
    if anchor.start:
        terms["start"] = anchor.start * distance(output, start)
    if anchor.reference and reference is not None:
        terms["reference"] = anchor.reference * distance(output, reference)
    if anchor.low_frequency:
        against = start if anchor.low_frequency_to == "start" or reference is None else reference
        size = anchor.low_frequency_size
        terms["low_frequency"] = anchor.low_frequency * distance(low_frequency(output, size), low_frequency(against, size))
    if anchor.consistency:
        terms["consistency"] = anchor.consistency * distance(scaled_down(output, low), low)
    if anchor.lpips:
        if perceptual is None:
            raise ValueError("LPIPS is weighted, but there is no perceptual distance")
        terms["lpips"] = anchor.lpips * perceptual(output, start)
    return terms


def low_frequency(image: torch.Tensor, size: int) -> torch.Tensor:
    """Means over squares of `size` pixels; squares cut by the right or lower rim average what there is."""
    return functional.avg_pool2d(image, size, ceil_mode=True)


def scaled_down(image: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """`image` at the size of `low`, by antialiased bicubic interpolation."""
    return functional.interpolate(image, low.shape[-2:], mode="bicubic", antialias=True, align_corners=False)


def surrogate(output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A scalar whose gradient by `output` is −`gradient`: the step down it is a step up the reward."""
    return -(output * gradient.detach()).sum()


def faded(old: torch.Tensor, new: torch.Tensor, share: float) -> torch.Tensor:
    """Cross-fade of two gradients, each already at its reward's weight: `old` at share 0, `new` at 1."""
    return (1 - share) * old + share * new


def bounded(value: torch.Tensor, bound: float) -> torch.Tensor:
    """`value` levelling off at ±bound (bound · tanh(value / bound)); 0 = as it is."""
    return bound * torch.tanh(value / bound) if bound else value


def norm(gradient: torch.Tensor) -> float:
    """Euclidean norm of all values, in float64."""
    return float(gradient.double().norm())


def reward_weight(reward_gradient: float, anchor_gradient: float, ratio: float) -> float:
    """The weight at which the reward's gradient norm is `ratio` times the anchor's. ValueError for a norm of 0 or infinity."""
    for name, value in (("reward", reward_gradient), ("anchor", anchor_gradient)):
        if not 0 < value < float("inf"):
            raise ValueError(f"the {name}'s gradient at the output has the norm {value:.3g}")
    return ratio * anchor_gradient / reward_gradient


def total(terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The sum of terms; there must be one."""
    return torch.stack(list(terms.values())).sum()
