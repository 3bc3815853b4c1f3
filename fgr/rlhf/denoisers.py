"""What diffusion policies denoise with: the pipelines of the upscalers, taken apart into steps that gradients go through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from fgr.sr.diffusion import color, ddpm, ldm, noise, stablesr

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
    multiple: int  # sides of inputs are extended by reflection to a multiple of this

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        """Noise of row i from `sources[i]`, in the order in which the upscaler draws it."""

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The network's output at the training time step `time`, guidance included."""

    def decode(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Latents → images (B, 3, 4h, 4w), nominally in [0, 1]."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) in [0, 1] → latents."""

    def to(self, *args: Any, **kwargs: Any) -> None:
        """Move everything, as a module's `to` does."""


class X4:
    """stable-diffusion-x4-upscaler."""

    multiple = 8

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

    def decode(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        vae = self._pipeline.vae
        return vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor

    def to(self, *args: Any, **kwargs: Any) -> None:
        self._pipeline.to(*args, **kwargs)


class Latent:
    """ldm-super-resolution-4x-openimages."""

    multiple = 8

    def __init__(self, restorer: Any) -> None:
        self._pipeline = restorer._pipeline
        self.unet, self.scheduler = self._pipeline.unet, self._pipeline.scheduler

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        shape = (len(low), self.unet.config.in_channels // 2, *low.shape[-2:])
        latents = noise.draw(shape, sources, low) * self.scheduler.init_noise_sigma
        return Begun(latents, {"image": low * 2 - 1})

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self.unet(torch.cat([latents, condition["image"]], dim=1), time).sample

    def decode(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self._pipeline.vqvae.decode(latents).sample / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self._pipeline.vqvae.encode(images * 2 - 1).latents

    def to(self, *args: Any, **kwargs: Any) -> None:
        self._pipeline.to(*args, **kwargs)


class Structured:
    """StableSR. Its own sampler is ancestral; tuned and audited it is sampled by DDIM on the same schedule and networks.

    Inputs are enlarged until the shorter side fills a latent tile, as the upscaler does; one tile is all that is tuned on.
    """

    multiple = 8

    def __init__(self, restorer: Any) -> None:
        from diffusers import DDIMScheduler

        self._restorer, self._knobs = restorer, restorer.knobs
        self.unet = restorer.networks["unet"]
        self._text = restorer._text.clone()  # out of inference mode
        self.scheduler = DDIMScheduler(
            beta_start=ddpm.FIRST_BETA, beta_end=ddpm.LAST_BETA, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1,
        )  # fmt: skip

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        enlarged = self._restorer._enlarged(low * 2 - 1)
        known = self._latent(enlarged)
        condition = {"enlarged": enlarged, "known": known, "size": (low.shape[-2] * 4, low.shape[-1] * 4)}
        return Begun(noise.draw(known.shape, sources, known), condition)

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        known, guidance = condition["known"], self._knobs["guidance"]
        times = time.expand(len(latents)) if time.ndim == 0 else time
        with torch.no_grad():
            self._restorer._structure.features = self._restorer._encoder(known, times)
        wanted = self._call(latents, times, 1)
        return wanted if guidance == 1 else torch.lerp(self._call(latents, times, 0), wanted, guidance)

    def decode(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        enlarged = condition["enlarged"]
        with torch.no_grad():
            self._restorer._vae.encode(enlarged)  # what the decoder is wrapped with
        decoded = self._restorer._vae.decode(latents / ldm.LATENT_SCALE).sample
        fixed = color.FIXES[self._knobs["color_fix"]](decoded.float(), enlarged)
        if tuple(fixed.shape[-2:]) != condition["size"]:
            fixed = functional.interpolate(fixed.clamp(-1, 1), condition["size"], mode="bicubic")
        return fixed / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        size = max(1.0, self._knobs["latent_tile"] * stablesr.PIXELS / min(images.shape[-2:]))
        return self._latent(functional.interpolate(images * 2 - 1, scale_factor=size, mode="bicubic").clamp(-1, 1))

    def to(self, *args: Any, **kwargs: Any) -> None:
        for network in (*self._restorer.networks.values(), self._restorer._wrapping):
            network.to(*args, **kwargs)
        self._text = self._text.to(*args, **kwargs)

    def _latent(self, images: torch.Tensor) -> torch.Tensor:
        return self._restorer._vae.encode(images).latent_dist.mode().float() * ldm.LATENT_SCALE

    def _call(self, latents: torch.Tensor, times: torch.Tensor, prompt: int) -> torch.Tensor:
        shown = self._text[prompt].expand(len(latents), -1, -1)
        return self.unet(latents, times, encoder_hidden_states=shown).sample


class OneStep:
    """OSEDiff: sampling begins with the input's latent, and its one step is DDIM's from time 999 to the end."""

    multiple = 1

    def __init__(self, restorer: Any) -> None:
        from diffusers import DDIMScheduler

        self._restorer, self.unet = restorer, restorer.networks["unet"]
        restorer.text = restorer.text.clone()  # out of inference mode
        self.scheduler = DDIMScheduler(
            beta_start=ddpm.FIRST_BETA, beta_end=ddpm.LAST_BETA, beta_schedule="scaled_linear", clip_sample=False,
            timestep_spacing="trailing",
        )  # fmt: skip

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        shown = self._restorer.shown(low)
        return Begun(self._restorer.encoded(shown, sources), {"shown": shown, "size": (low.shape[-2] * 4, low.shape[-1] * 4)})

    def predict(self, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self._restorer.predicted(latents)

    def decode(self, latents: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self._restorer.decoded(latents, condition["shown"], *condition["size"])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        vae = self._restorer.networks["vae"]
        return vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor

    def to(self, *args: Any, **kwargs: Any) -> None:
        for network in self._restorer.networks.values():
            network.to(*args, **kwargs)
        self._restorer.text = self._restorer.text.to(*args, **kwargs)


DENOISERS: dict[str, Any] = {
    "sd-x4-upscaler": X4, "ldm-sr": Latent, "stablesr": Structured, "stablesr-turbo": Structured, "osediff": OneStep,
}  # fmt: skip
UNFIT = {  # policy → algorithms that make no sense of it, and why
    "osediff": {
        "draft-lv": "it denoises the finished sample anew, and OSEDiff begins with the input's latent, never with noise",
        "grpo": "it needs stochastic steps, and OSEDiff has one step, which is not",
        "dpo": "it compares errors at random times under noise, and OSEDiff is only ever asked at one, of the input's latent",
    },
}
