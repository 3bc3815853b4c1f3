"""The baseline: bicubic interpolation, as Pillow does it."""

import hashlib
from typing import Any

import numpy as np
from PIL import Image

from fgr.sr.jobs import Job


class Bicubic:
    """Upscales by any whole factor."""

    name = "bicubic"
    digest = hashlib.sha256(b"bicubic interpolation, Pillow, a = -0.5").hexdigest()
    license = "none"
    weights = "no weights: interpolation by Pillow"
    external = False

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def settings(self) -> dict[str, Any]:
        return {"tile": 0, "overlap": 0, "precision": "fp32"}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        return [self._one(job.image) for job in jobs]

    def _one(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        size = (width * self.scale, height * self.scale)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
