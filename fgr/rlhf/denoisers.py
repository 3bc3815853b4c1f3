"""What diffusion policies denoise with: the pipelines of the upscalers, taken apart into steps that gradients go through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from fgr.generate.upscalers.diffusion import noise

Condition = Mapping[str, Any]


@dataclass(frozen=True)
class Begun:
    """The noise that sampling starts from, (B, C, h, w), and what the network is told of the input."""

    latents: torch.Tensor
    condition: Condition


class Denoiser(Protocol):
    """A model's parts: `unet` learns, `scheduler` is a DDIM scheduler."""

    unet: Any
    scheduler: Any

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        """Noise of row i from `sources[i]`, in the order in which the upscaler draws it."""

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The network's output at the training time step `time`, guidance included."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents → images (B, 3, H, W), nominally in [0, 1]."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) in [0, 1] → latents."""


class X4:
    """stable-diffusion-x4-upscaler."""

    def __init__(self, restorer: Any) -> None:
        self._pipeline, self._knobs = restorer._pipeline, restorer.knobs
        self.unet, self.scheduler = self._pipeline.unet, self._pipeline.scheduler

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        pipeline, knobs = self._pipeline, self._knobs
        guided = knobs["guidance"] > 1
        text, without = pipeline.encode_prompt(
            [knobs["prompt"]] * len(low), low.device, 1, guided, [knobs["negative_prompt"]] * len(low)
        )
        image = pipeline.image_processor.preprocess(low).to(low.device, low.dtype)
        level = torch.full((len(low),), knobs["noise_level"], dtype=torch.long, device=low.device)
        image = pipeline.low_res_scheduler.add_noise(image, noise.draw(image.shape, sources, image), level)
        shape = (len(low), pipeline.vae.config.latent_channels, *image.shape[-2:])
        latents = noise.draw(shape, sources, image) * self.scheduler.init_noise_sigma
        return Begun(latents, {"image": image, "text": text, "without": without if guided else None, "level": level})

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        into = torch.cat([latents, condition["image"]], dim=1)
        text, level, without = condition["text"], condition["level"], condition["without"]
        if without is None:
            return self.unet(into, time, encoder_hidden_states=text, class_labels=level).sample
        both = self.unet(
            torch.cat([into, into]), time, encoder_hidden_states=torch.cat([without, text]), class_labels=level.repeat(2)
        ).sample
        unguided, guided = both.chunk(2)
        return unguided + self._knobs["guidance"] * (guided - unguided)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor


class Latent:
    """ldm-super-resolution-4x-openimages."""

    def __init__(self, restorer: Any) -> None:
        self._pipeline = restorer._pipeline
        self.unet, self.scheduler = self._pipeline.unet, self._pipeline.scheduler

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        shape = (len(low), self.unet.config.in_channels // 2, *low.shape[-2:])
        latents = noise.draw(shape, sources, low) * self.scheduler.init_noise_sigma
        return Begun(latents, {"image": low * 2 - 1})

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.unet(torch.cat([latents, condition["image"]], dim=1), time).sample

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._pipeline.vqvae.decode(latents).sample / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self._pipeline.vqvae.encode(images * 2 - 1).latents


DENOISERS: dict[str, Any] = {"sd-x4-upscaler": X4, "ldm-sr": Latent}
