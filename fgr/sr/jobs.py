"""What an upscaler is given and what it is: Job, Upscaler, NonFiniteOutput."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Job:
    """One image to restore and where it comes from."""

    image: np.ndarray  # low-resolution input, uint8 (h, w, 3) RGB
    photo: str  # the photograph's name in its source, without suffix
    photo_size: tuple[int, int]  # (height, width) of the photograph
    box: tuple[int, int, int]  # (top, left, side) of the reference crop in it
    reference: np.ndarray | None = None  # the crop itself, uint8 (H, W, 3), where it is known; no SR model looks at it
    prompt: str | None = None  # for models that know text: in place of what they say themselves
    seat: tuple[int, int] | None = None  # place and batch size that it had when it ran before, to run in the same way again


class NonFiniteOutput(Exception):
    """The network's output holds NaN or infinity: no image can be made of it."""


class Upscaler(Protocol):
    """An SR model, open and ready."""

    name: str
    digest: str  # sha256 of the weights
    scale: int
    license: str
    weights: str  # one line: which weights these are
    external: bool  # the low-resolution input was made elsewhere

    def settings(self, index: int = 0) -> dict[str, Any]:
        """How image `index` of the last call of `upscale` was made, as far as it depends on it: tile, overlap, precision, …

        Off the CPU also the size of its batch and its place in it: with both in `Job.seat` it comes out the same, alone too.
        """

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """The restored images, uint8 (h·scale, w·scale, 3), in order. NonFiniteOutput or UserError."""
