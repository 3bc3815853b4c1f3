"""The interface of every diffusion SR model – begin, predict, step, decode – and sampling by it.

The upscaler (`upscaler.py`) and the policy that RL tunes (`fgr.rlhf.diffusion_policy`) run models through it alone; gradients go
through `predict`, `step` and `decode` where they are enabled.
"""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from fgr.progress import remark
from fgr.sr.diffusion.latent_tiles import Chop
from fgr.sr.diffusion.prompts import Prompts
from fgr.sr.diffusion.samplers import Sampler

SCALE = 4  # of all these models
MULTISTEP = 2  # clean latents of the steps before that a sampler may look back at


@dataclass(frozen=True)
class Start:
    """Where sampling begins: latents (B, C, h, w), and all that the model is shown of the inputs from there on."""

    latents: torch.Tensor
    condition: Mapping[str, Any]


class DiffusionModel(Protocol):
    """A diffusion SR model, loaded and on its device."""

    multiple: int  # sides of the low-resolution input are extended by reflection to a multiple of this
    smallest_tile: int  # in low-resolution pixels: below it a tile saves no memory, or shows the model too little
    settings: Mapping[str, Any]  # what can be set of it, resolved
    networks: Mapping[str, Any]  # its torch modules by what they do: "unet", "vae" and others
    sampler: Sampler
    text: Prompts | None  # its prompts; None where it knows no text
    chop: Chop | None  # how the upscaler cuts up large inputs; None where they are run whole

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """The start of sampling for inputs, float32 (B, 3, h, w) in [0, 1]; noise of row i from `sources[i]`.

        `prompts` are those of the rows, or follow from the model's own and the images.
        """

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """The network's output for latents at the training times (B,), guidance and latent tiles included."""

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """Clean latents → images (B, 3, 4h, 4w), nominally in [0, 1]."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images of the output's size, (B, 3, 4h, 4w) in [0, 1] with sides that are multiples of 32 → their clean latents."""


def sample(
    model: DiffusionModel, images: torch.Tensor, sources: Sequence[torch.Generator], eta: float | None = None,
    prompts: Sequence[str] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Inputs (B, 3, h, w) in [0, 1] → outputs (B, 3, 4h, 4w), nominally in [0, 1]; `eta` as `Sampler.step` says."""
    start = model.begin(images, sources, prompts)
    latents, earlier = start.latents, deque[torch.Tensor](maxlen=MULTISTEP)
    for index, time in enumerate(model.sampler.times):
        remark(f"denoising step {index + 1} of {len(model.sampler.times)}")
        times = torch.full((len(latents),), time, device=latents.device)
        step = model.sampler.step(latents, model.predict(latents, times, start), index, eta, tuple(earlier))
        earlier.appendleft(step.clean)
        latents = step.drawn(draw(latents.shape, sources, latents) if step.sd else None)
    return model.decode(latents, start)


def embedded(text: Prompts, images: torch.Tensor, prompts: Sequence[str] | None, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model with text is shown of it: "text" (B, 77, width), and "without" (1, 77, width), to be guided away from."""
    chosen = prompts if prompts is not None else text.of(images, [""] * len(images))
    return {"text": text.embedded(chosen).to(like.device)} | ({} if text.negative is None else {"without": text.negative})


def image_seed(image: np.ndarray, seed: int) -> int:
    """A seed in [0, 2**63) that follows from an image's pixels, uint8 (h, w, 3), and the recipe's seed."""
    sha = hashlib.sha256(f"{seed} {image.shape}\n".encode())
    sha.update(np.ascontiguousarray(image).tobytes())
    return int.from_bytes(sha.digest()[:8], "big") >> 1


def generators(images: Sequence[np.ndarray], seed: int) -> list[torch.Generator]:
    """A generator for each image: its noise is the same alone or in a batch. On the CPU, so that every device draws the same."""
    return [torch.Generator().manual_seed(image_seed(image, seed)) for image in images]


def draw(shape: Sequence[int], sources: Sequence[torch.Generator], like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise (B, …), a row from each of the B `sources`, on the device and in the dtype of `like`."""
    rows = [torch.randn(1, *shape[1:], generator=source) for source in sources]
    return torch.cat(rows).to(like.device, like.dtype)


def drawn_latents(vae: Any, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
    """Latents of images in [−1, 1], drawn from what an autoencoder says of them: unscaled, in its dtype."""
    posterior = vae.encode(images).latent_dist
    return posterior.mean + posterior.std * draw(posterior.mean.shape, sources, posterior.mean)
