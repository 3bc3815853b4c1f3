"""sd-x4-upscaler and ldm-sr: a latent of the input's size, denoised beside the input by DDIM."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError
from fgr.sr.diffusion.files import folder_of
from fgr.sr.diffusion.loading import again_in_float32, expect_steps, part
from fgr.sr.diffusion.prompts import Prompts
from fgr.sr.diffusion.samplers import DdimSampler
from fgr.sr.diffusion.stepwise import Start, draw, embedded


class X4Upscaler:
    """stabilityai/stable-diffusion-x4-upscaler: the input is shown under noise, and the level of that noise with it."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "", "steps": 75, "guidance": 9.0, "noise_level": 20, "eta": 0.0,
    }  # fmt: skip
    multiple, smallest_tile, chop = 8, 64, None

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        expect_steps(settings["steps"], "sd-x4-upscaler")
        folder = folder_of(found, "sd-x4-upscaler")
        self.settings = settings
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self._text_encoder = part(CLIPTextModel, folder, "text_encoder").to(device)
        self.text = Prompts(settings, lambda: self._embedded, device, guided=settings["guidance"] > 1)
        self._unet = part(UNet2DConditionModel, folder, "unet").to(device)
        self._vae = part(AutoencoderKL, folder, "vae").to(device)
        _expect_channels(self._unet, self._vae.config.latent_channels + 3, folder)
        self._vae.enable_slicing()  # a batch's images one after the other: it gains nothing here and takes their memory
        self._input_noise = DDPMScheduler.from_pretrained(folder / "low_res_scheduler")
        self.sampler = DdimSampler(DDIMScheduler.from_pretrained(folder / "scheduler"), settings["steps"], settings["eta"])
        self.networks = {"unet": self._unet, "vae": self._vae, "text encoder": self._text_encoder}
        again_in_float32(self._vae.decoder, "The VAE of sd-x4-upscaler")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        settings, batch = self.settings, len(images)
        level = torch.full((batch,), settings["noise_level"], dtype=torch.long, device=images.device)
        image = images * 2 - 1
        image = self._input_noise.add_noise(image, draw(image.shape, sources, image), level)
        latents = draw((batch, self._vae.config.latent_channels, *image.shape[-2:]), sources, image)
        return Start(latents, {"image": image, "level": level, **embedded(self.text, images, prompts, latents)})

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        condition = start.condition
        shown = torch.cat([latents, condition["image"]], 1)
        text, level = condition["text"], condition["level"]
        if self.settings["guidance"] <= 1:
            return self._unet(shown, times, encoder_hidden_states=text, class_labels=level, return_dict=False)[0]
        both = self._unet(
            torch.cat([shown, shown]), times.repeat(2),
            encoder_hidden_states=torch.cat([condition["without"].expand_as(text), text]), class_labels=level.repeat(2),
            return_dict=False,
        )[0]  # fmt: skip
        unguided, guided = both.chunk(2)
        return unguided + self.settings["guidance"] * (guided - unguided)

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vae.decode(latents / self._vae.config.scaling_factor).sample / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vae.encode(images * 2 - 1).latent_dist.mode() * self._vae.config.scaling_factor

    def _embedded(self, prompts: list[str]) -> torch.Tensor:
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self._text_encoder(tokens.input_ids.to(self._text_encoder.device))[0].to(self._text_encoder.dtype)


class LatentDiffusion:
    """CompVis/ldm-super-resolution-4x-openimages: the same in the latent of a VQ-GAN, without text."""

    defaults: Mapping[str, Any] = {"steps": 100, "eta": 1.0}
    text = None
    multiple, smallest_tile, chop = 8, 64, None

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        from diffusers import DDIMScheduler, UNet2DModel, VQModel

        expect_steps(settings["steps"], "ldm-sr")
        folder = folder_of(found, "ldm-sr")
        self.settings = settings
        self._vq = part(VQModel, folder, "vqvae").to(device)
        self._unet = part(UNet2DModel, folder, "unet").to(device)
        _expect_channels(self._unet, self._vq.config.latent_channels + 3, folder)
        self.sampler = DdimSampler(DDIMScheduler.from_pretrained(folder / "scheduler"), settings["steps"], settings["eta"])
        self.networks = {"unet": self._unet, "vae": self._vq}
        again_in_float32(self._vq.decoder, "The decoder of ldm-sr")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        latents = draw((len(images), self._vq.config.latent_channels, *images.shape[-2:]), sources, images)
        return Start(latents, {"image": images * 2 - 1})

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._unet(torch.cat([latents, start.condition["image"]], 1), times).sample

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vq.decode(latents).sample.clamp(-1, 1) / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vq.encode(images * 2 - 1).latents


def _expect_channels(unet: Any, wanted: int, folder: Path) -> None:
    if unet.config.in_channels != wanted:
        raise UserError(
            f"The UNet in {folder} takes {unet.config.in_channels} channels, not {wanted}: it is not the UNet of an upscaler.",
            "Put the upscaler's UNet there.",
        )
