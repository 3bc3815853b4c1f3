"""sd-x4-upscaler and ldm-sr: models that diffusers has a pipeline for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError
from fgr.sr.diffusion import half
from fgr.sr.diffusion.files import folder_of

LARGEST_NOISE_LEVEL = 350  # the upscaler was trained up to here


class X4Upscaler:
    """stabilityai/stable-diffusion-x4-upscaler: denoises a latent of the input's size beside the noised input itself."""

    defaults: Mapping[str, Any] = {"prompt": "", "negative_prompt": "", "steps": 75, "guidance": 9.0, "noise_level": 20}
    multiple, smallest_tile = 8, 64

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        folder = folder_of(found, "sd-x4-upscaler")
        self.knobs = knobs
        self._pipeline = _ready(
            StableDiffusionUpscalePipeline(
                vae=part(AutoencoderKL, folder, "vae"),
                text_encoder=part(CLIPTextModel, folder, "text_encoder"),
                tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
                unet=part(UNet2DConditionModel, folder, "unet"),
                low_res_scheduler=DDPMScheduler.from_pretrained(folder / "low_res_scheduler"),
                scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
                max_noise_level=LARGEST_NOISE_LEVEL,
            ),
            device,
        )
        _expect_channels(self._pipeline.unet, self._pipeline.vae.config.latent_channels + 3, folder)
        self._pipeline.vae.enable_slicing()  # a batch's images one after the other: it gains nothing here and takes their memory
        self.networks = {"unet": self._pipeline.unet, "vae": self._pipeline.vae}
        half.again_in_float32(self._pipeline.vae.decoder, "The VAE of sd-x4-upscaler")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        knobs, pipeline = self.knobs, self._pipeline
        latents = pipeline(
            prompt=[knobs["prompt"]] * len(images), negative_prompt=[knobs["negative_prompt"]] * len(images),
            image=images, generator=list(sources), num_inference_steps=knobs["steps"], guidance_scale=knobs["guidance"],
            noise_level=knobs["noise_level"], output_type="latent",
        ).images  # fmt: skip
        return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample / 2 + 0.5


class LatentDiffusion:
    """CompVis/ldm-super-resolution-4x-openimages: the same in the latent of a VQ-GAN, without text. DDIM with η = 0."""

    defaults: Mapping[str, Any] = {"steps": 100}
    multiple, smallest_tile = 8, 64

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        from diffusers import DDIMScheduler, LDMSuperResolutionPipeline, UNet2DModel, VQModel

        folder = folder_of(found, "ldm-sr")
        self.knobs = knobs
        self._pipeline = _ready(
            LDMSuperResolutionPipeline(
                part(VQModel, folder, "vqvae"),
                part(UNet2DModel, folder, "unet"),
                DDIMScheduler.from_pretrained(folder / "scheduler"),
            ),
            device,
        )
        _expect_channels(self._pipeline.unet, self._pipeline.vqvae.config.latent_channels + 3, folder)
        self.networks = {"unet": self._pipeline.unet, "vae": self._pipeline.vqvae}
        half.again_in_float32(self._pipeline.vqvae.decoder, "The decoder of ldm-sr")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        return self._pipeline(
            images * 2 - 1, num_inference_steps=self.knobs["steps"], generator=list(sources), output_type="pt"
        ).images


def part(kind: Any, folder: Path, part: str) -> Any:
    """A module from its subfolder. UserError if that is damaged, of another architecture, or not whole."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity(50)  # it takes for an error every .bin file that is no .safetensors
    hint = f"Move {folder / part} away and fetch it anew."
    try:
        module, info = kind.from_pretrained(folder / part, local_files_only=True, output_loading_info=True)
    except Exception as error:  # configurations and files fail in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder / part} holds no {kind.__name__} ({reason.rstrip('.')}).", hint) from None
    wrong = [str(key) for kind_ in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind_]]
    wrong = [key for key in wrong if not key.endswith("position_ids")]  # a constant that older files carry along
    if wrong:
        raise UserError(f"{folder / part} does not match its config.json: tensor {wrong[0]} and {len(wrong) - 1} others.", hint)
    return module.eval().requires_grad_(False)


def _expect_channels(unet: Any, wanted: int, folder: Path) -> None:
    if unet.config.in_channels != wanted:
        raise UserError(
            f"The UNet in {folder} takes {unet.config.in_channels} channels, not {wanted}: it is no upscaler's.",
            "Put the upscaler's UNet there.",
        )


def _ready(pipeline: Any, device: torch.device) -> Any:
    """On its device, and without a progress bar of its own."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
