"""ResShift (arXiv 2307.12348) from its published checkpoints: from the enlarged input's latent to the image's in few steps."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import half, ldm, noise
from fgr.sr.diffusion.files import load_strictly
from fgr.sr.diffusion.swin import NOMINAL, swin_unet
from fgr.tensors import read_tensors

SCALE = 4
KAPPA, POWER, LAST = 2.0, 0.3, 0.99
PREFIXES = ("module.", "_orig_mod.")  # left by what trained and compiled


class Schedule:
    """How much of the residual is shifted in, η, at each of `steps` of `length` steps."""

    def __init__(self, length: int, least: float, steps: int) -> None:
        first = min(least / KAPPA, least)
        exponents = np.linspace(0, 1, length) ** POWER * (length - 1)
        roots = first * np.exp(math.log(LAST / first) / (length - 1)) ** exponents
        self.times = [int(length / steps * i) for i in range(steps)]
        self.eta = roots[self.times] ** 2
        before = np.append(0.0, self.eta[:-1])
        self.keep, self.take = before / self.eta, (self.eta - before) / self.eta
        self.deviation = KAPPA * np.sqrt(before / self.eta * (self.eta - before))

    def beginning(self, known: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """The last state: the input's latent under the most noise."""
        return known + float(KAPPA * np.sqrt(self.eta[-1])) * drawn

    def shown(self, now: torch.Tensor, i: int) -> torch.Tensor:
        """A state as the network is shown it, with variance near one."""
        return now / float(np.sqrt(self.eta[i] * KAPPA**2 + 1))

    def step(self, now: torch.Tensor, i: int, start: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
        """The state before, given the network's estimate of the image's latent; no noise at i = 0."""
        mean = float(self.keep[i]) * now + float(self.take[i]) * start
        return mean if drawn is None else mean + float(self.deviation[i]) * drawn


class ResShift:
    """Fifteen steps; fewer are evenly chosen of them."""

    length, least = 15, 0.04
    defaults: Mapping[str, Any] = {"steps": 15}
    multiple = smallest_tile = NOMINAL

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        main, autoencoder = found.values()
        self.knobs = knobs
        if knobs["steps"] > self.length:
            raise UserError(
                f"This ResShift has {self.length} steps, and {knobs['steps']} are asked for.",
                f"Set steps to {self.length} or less.",
            )
        self._schedule = Schedule(self.length, self.least, knobs["steps"])
        state = _tensors(main)
        with ldm.expecting(main, "ResShift's UNet for ×4"):
            module = swin_unet(state)
        self._unet = load_strictly(module, state, "ResShift's UNet for ×4", main).to(device)
        self._vq = vq(_tensors(autoencoder), autoencoder).to(device)
        self.networks = {"unet": self._unet, "vae": self._vq}
        half.again_in_float32(self._vq.decoder, "The decoder of ResShift")
        half.again_in_float32(self._vq.encoder, "The encoder of ResShift")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        images = images * 2 - 1
        enlarged = functional.interpolate(images, scale_factor=SCALE, mode="bicubic")
        known = self._vq.encode(enlarged).latents.float()
        now = self._schedule.beginning(known, noise.draw(known.shape, sources, known))
        for i in reversed(range(len(self._schedule.times))):
            times = torch.full((len(now),), self._schedule.times[i], device=now.device)
            start = self._unet(self._schedule.shown(now, i), times, images).float()
            now = self._schedule.step(now, i, start, noise.draw(now.shape, sources, now) if i else None)
        return self._vq.decode(now).sample.float() / 2 + 0.5


class ResShiftFour(ResShift):
    """The four steps of the journal version."""

    length, least = 4, 0.2
    defaults: Mapping[str, Any] = {"steps": 4}


def vq(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """The VQ autoencoder of a checkpoint in the latent diffusion code's names."""
    from diffusers import VQModel
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    what = "ResShift's VQ autoencoder"
    with ldm.expecting(file, what):
        book = state["quantize.embedding.weight"]
        channels = tuple(state[f"encoder.down.{i}.block.1.conv2.weight"].shape[0] for i in range(3))
        module: Any = VQModel(
            block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=2, latent_channels=book.shape[1], num_vq_embeddings=book.shape[0], scaling_factor=1.0,
        )  # fmt: skip
        rest = {name: tensor for name, tensor in state.items() if not name.startswith("quantize.")}
        converted = convert_ldm_vae_checkpoint(rest, dict(module.config)) | {"quantize.embedding.weight": book}
    ldm.expect_all_taken(state, converted, what, file)
    return load_strictly(module, converted, what, file)


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in read_tensors(file, lazily=True).items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        found[name] = tensor
    return found
