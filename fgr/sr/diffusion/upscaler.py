"""Diffusion models as upscalers: batches, tiles, each image's own noise, memory that runs out, NaN."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fgr.errors import UserError
from fgr.images import tiles
from fgr.sr.diffusion.stepwise import SCALE, DiffusionModel, generators, sample
from fgr.sr.jobs import Job, NonFiniteOutput
from fgr.sr.network import PRECISIONS, is_out_of_memory


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
        self.batch = 1 if device.type == "cpu" else batch
        self.tile = self._expect_tile(tile)
        self._fits: dict[tuple[int, int], tuple[int, int]] = {}  # image size → batch and tile that memory allowed
        self._last_tile = self.tile

    def settings(self) -> dict[str, Any]:
        own = dict(self.model.settings)
        return {"tile": self._last_tile, "overlap": self.overlap, "precision": self.precision, "diffusion": own}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """All of `jobs` with one tile size: the one asked for, or what memory allows for their largest image."""
        size = max(job.image.shape[0] for job in jobs), max(job.image.shape[1] for job in jobs)
        batch, tile = self._fits.get(size, (self.batch, self.tile))
        while True:
            results = self._attempt([job.image for job in jobs], batch, tile)
            if results is not None:
                break
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            batch, tile = self._smaller(batch, tile, max(size))
            self._fits[size] = batch, tile
        self._last_tile = tile
        return results

    def _attempt(self, images: list[np.ndarray], batch: int, tile: int) -> list[np.ndarray] | None:
        """None when memory runs out: returned, not raised, for a traceback would keep the activations alive."""
        with contextlib.suppress(MemoryError):
            try:
                return list(self._run(images, batch, tile))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
        return None

    def _run(self, images: list[np.ndarray], batch: int, tile: int) -> Iterator[np.ndarray]:
        start = 0
        while start < len(images):
            image = images[start]
            if tile and max(image.shape[:2]) > tile:
                yield tiles.upscale(image, self._forward, self.scale, tile, self.overlap, batch)
                start += 1
                continue
            alike = [image]
            while len(alike) < batch and start + len(alike) < len(images) and images[start + len(alike)].shape == image.shape:
                alike.append(images[start + len(alike)])
            yield from tiles.quantised(self._forward(np.stack(alike)))
            start += len(alike)

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

    def _smaller(self, batch: int, tile: int, side: int) -> tuple[int, int]:
        if batch > 1:
            return batch // 2, tile
        whole = min(tile or side, side)
        half_tile = whole // 2 // self.model.multiple * self.model.multiple
        if half_tile < self._smallest:
            raise UserError(
                f"The memory of {self.device} does not suffice for {self.name}, even with tiles of {whole} pixels.",
                "Close other programs, start fewer workers, set inference.precision=fp16 on a GPU, or choose a smaller model.",
            )
        return 1, half_tile

    @property
    def _smallest(self) -> int:
        return max(self.model.smallest_tile, 2 * self.overlap)

    def _expect_tile(self, tile: int) -> int:
        fitting = tile // self.model.multiple * self.model.multiple
        if tile and fitting < self._smallest:
            raise UserError(
                f"A tile of {tile} pixels is too small for {self.name} with an overlap of {self.overlap}.",
                f"Set tile to {-(-self._smallest // self.model.multiple) * self.model.multiple} or more, "
                "or to 0 for whole images.",
            )
        return fitting


@contextlib.contextmanager
def numerics(device: torch.device, precision: str) -> Iterator[None]:
    """Inference in `precision` by autocast; on CUDA the same bytes every time, and fp32 that is fp32."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False))
        if PRECISIONS[precision] != torch.float32:
            stack.enter_context(torch.autocast(device.type, PRECISIONS[precision]))
        yield
