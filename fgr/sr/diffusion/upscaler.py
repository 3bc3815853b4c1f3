"""Diffusion models as upscalers: prompts, batches, tiles, noise of each image, running out of memory."""

from functools import partial
from typing import Any

import numpy as np
import torch

from fgr.devices import numerics, settled_precision
from fgr.images import tiles
from fgr.images.arrays import as_tensor
from fgr.sr.diffusion.stepwise import SCALE, DiffusionModel, generators, sample
from fgr.sr.jobs import Job, NonFiniteOutput
from fgr.sr.memory import MemoryFit

LONG = 10  # steps from which one step's rounding is made good by the next ones: such models run in bf16 where nothing is said


class DiffusionUpscaler:
    """An upscaler by diffusion. On the CPU images run one at a time, so that their bytes do not depend on their neighbours."""

    external = False

    def __init__(
        self, name: str, model: DiffusionModel, digest: str, license: str, weights: str, device: torch.device, *,
        tile: int, overlap: int, precision: str, batch: int,
    ) -> None:  # fmt: skip
        self.name, self.digest, self.license, self.weights, self.scale = name, digest, license, weights, SCALE
        self.model, self.device, self.overlap = model, device, overlap
        self.precision = settled_precision(precision, device, lambda: len(model.sampler.times) >= LONG)
        self.fit = MemoryFit(
            name, device, SCALE, tile=tile, overlap=overlap, batch=batch, multiple=model.multiple, smallest=model.smallest_tile
        )
        self._last: list[tuple[dict[str, int], str | None]] = []  # how each image of the last call ran, and its prompt

    def settings(self, index: int = 0) -> dict[str, Any]:
        """See `Upscaler`; "prompt" is the text that the model was shown."""
        ran, prompt = self._last[index] if self._last else (self.fit.made(0), None)
        own = dict(self.model.settings) | ({} if prompt is None else {"prompt": prompt})
        return {**ran, "overlap": self.overlap, "precision": self.precision, "diffusion": own}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """All of `jobs` of one prompt with one tile size: the one asked for, or what memory allows for their largest image."""
        prompts = [self._prompt(job) for job in jobs]
        if len(set(prompts)) > 1:
            results = [self._run([job], prompt)[0] for job, prompt in zip(jobs, prompts, strict=True)]
        else:
            results = self._run(jobs, prompts[0])
        self._last = [(ran, prompt) for (_, ran), prompt in zip(results, prompts, strict=True)]
        return [image for image, _ in results]

    def _run(self, jobs: list[Job], prompt: str | None) -> list[tuple[np.ndarray, dict[str, int]]]:
        forward = partial(self._forward, prompt=prompt)
        inputs, seats = [job.image for job in jobs], [job.seat for job in jobs]
        images = self.fit.run(inputs, forward, lambda whole: tiles.quantised(forward(whole)), seats)
        return [(image, self.fit.made(i)) for i, image in enumerate(images)]

    def _prompt(self, job: Job) -> str | None:
        """What the model is shown beside an image; tiles of it are shown the same."""
        text = self.model.text
        if text is None or job.prompt is not None:
            return None if text is None else job.prompt
        with numerics(self.device, self.precision):
            return text.of(as_tensor([job.image], self.device), [job.photo])[0]

    def _forward(self, images: np.ndarray, prompt: str | None) -> np.ndarray:
        """uint8 (n, h, w, 3) → float32 (n, h·scale, w·scale, 3). NonFiniteOutput."""
        sources = generators(list(images), self.model.settings["seed"])
        prompts = None if prompt is None else [prompt] * len(images)
        with numerics(self.device, self.precision):
            inputs = as_tensor(list(images), self.device)
            chop = self.model.chop
            restore = partial(self._sampled, sources=sources, prompts=prompts)
            outputs = restore(inputs) if chop is None else chop.restore(inputs, restore, self.scale)
            if not torch.isfinite(outputs).all():
                raise NonFiniteOutput(f"{self.name} gave values that are not finite")
            return outputs.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _sampled(self, inputs: torch.Tensor, sources: list[torch.Generator], prompts: list[str] | None) -> torch.Tensor:
        """Inputs (B, 3, h, w) of any size → outputs; pieces of an image draw their noise one after the other."""
        height, width = inputs.shape[2:]
        rows, columns = (np.pad(np.arange(side), (0, -side % self.model.multiple), mode="reflect") for side in (height, width))
        padded = inputs[:, :, rows][..., columns]
        outputs = sample(self.model, padded, sources, prompts=prompts).float()
        return outputs[:, :, : height * self.scale, : width * self.scale]
