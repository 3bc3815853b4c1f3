"""Diffusion models as upscalers: batches, tiles, each image's own noise, memory that runs out, NaN."""

from typing import Any

import numpy as np
import torch

from fgr.images import tiles
from fgr.sr.diffusion.stepwise import SCALE, DiffusionModel, generators, sample
from fgr.sr.jobs import Job, NonFiniteOutput
from fgr.sr.memory import MemoryFit
from fgr.sr.network import numerics


class DiffusionUpscaler:
    """An upscaler by diffusion. On the CPU images run one at a time, so that their bytes do not depend on their neighbours."""

    external = False

    def __init__(
        self, name: str, model: DiffusionModel, digest: str, license: str, weights: str, device: torch.device, *,
        tile: int, overlap: int, precision: str, batch: int,
    ) -> None:  # fmt: skip
        self.name, self.digest, self.license, self.weights, self.scale = name, digest, license, weights, SCALE
        self.overlap, self.precision = overlap, precision
        self.model, self.device = model, device
        self.fit = MemoryFit(
            name, device, SCALE, tile=tile, overlap=overlap, batch=batch, multiple=model.multiple, smallest=model.smallest_tile
        )

    def settings(self) -> dict[str, Any]:
        own = dict(self.model.settings)
        return {"tile": self.fit.last_tile, "overlap": self.overlap, "precision": self.precision, "diffusion": own}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """All of `jobs` with one tile size: the one asked for, or what memory allows for their largest image."""
        images = [job.image for job in jobs]
        return self.fit.run(images, self._forward, lambda whole: tiles.quantised(self._forward(whole)))

    def _forward(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) → float32 (n, h·scale, w·scale, 3). NonFiniteOutput."""
        height, width = images.shape[1:3]
        multiple = self.model.multiple
        padded = np.pad(images, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), mode="reflect")
        sources = generators(list(images), self.model.settings["seed"])
        with numerics(self.device, self.precision):
            inputs = torch.from_numpy(padded).to(self.device).permute(0, 3, 1, 2).float().div_(255).contiguous()
            outputs = sample(self.model, inputs, sources).float()
            if not torch.isfinite(outputs).all():
                raise NonFiniteOutput(f"{self.name} gave values that are not finite")
            cropped = outputs[:, :, : height * self.scale, : width * self.scale]
            return cropped.permute(0, 2, 3, 1).contiguous().cpu().numpy()
