"""The anchor: losses between a policy's output and its start, the reference and the input.

Tensors are float (B, 3, H, W), images in [0, 1].
"""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from fgr.recipe.rlhf import Anchor

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

DISTANCES: dict[str, Distance] = {
    "l1": lambda a, b: (a - b).abs().mean(),
    "l2": lambda a, b: (a - b).square().mean(),
}


def anchor_terms(
    anchor: Anchor, output: torch.Tensor, low: torch.Tensor, start: torch.Tensor, reference: torch.Tensor | None,
    perceptual: Mapping[str, Distance] | None = None,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """The weighted terms by name, each a scalar: those of weight 0 are left out.

    `low` is the input (B, 3, h, w), `start` the untuned network's output. ValueError if a term needs a reference and there is
    none, or a perceptual distance that `perceptual` (metric's name → distance, (B,)) lacks.
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
    for name, weight in anchor.perceptual.items():
        measure = (perceptual or {}).get(name)
        if measure is None:
            raise ValueError(f"the anchor weighs {name}, and it is not open")
        terms[name.replace("-", "_")] = weight * measure(output, start).mean()
    return terms


def low_frequency(image: torch.Tensor, size: int) -> torch.Tensor:
    """Means over squares of `size` pixels; squares cut by the right or lower rim average what there is."""
    return functional.avg_pool2d(image, size, ceil_mode=True)


def scaled_down(image: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """`image` at the size of `low`, by antialiased bicubic interpolation."""
    return functional.interpolate(image, low.shape[-2:], mode="bicubic", antialias=True, align_corners=False)


def total(terms: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The sum of terms; there must be one."""
    return torch.stack(list(terms.values())).sum()
