"""DiffBIR 2.1 (arXiv 2308.15070): a restoration network, then Stable Diffusion under a ControlNet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import predict_in_tiles
from fgr.sr.diffusion.pixels import COLOR_FIXES, enlarge, fitted
from fgr.sr.diffusion.samplers import AncestralSampler, alphas_cumprod, spaced, zero_terminal
from fgr.sr.diffusion.stepwise import SCALE, Start, draw
from fgr.tensors import read_tensors

PIXELS, GRID = 8, 64
CLEANER, CONTROL, STABLE = "realesrgan_s4_swinir_100k.pth", "DiffBIR_v2.1.pt", "sd2.1-base-zsnr-laionaes5.ckpt"


class DiffBIR:
    """Ancestral sampling of the velocity, guided away from the negative prompt; colours from the cleaned image."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "low quality, blurry, low-resolution, noisy, unsharp, weird textures",
        "guidance": 4.0, "steps": 50, "color_fix": "wavelet", "latent_tile": 64, "latent_overlap": 32, "base": None,
    }  # fmt: skip
    multiple = 1
    least = 512  # shorter side in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        if settings["latent_tile"] % PIXELS or settings["latent_overlap"] >= settings["latent_tile"]:
            raise UserError(
                f"Latent tiles of {settings['latent_tile']} cannot overlap by {settings['latent_overlap']}.",
                f"Set latent_tile to a multiple of {PIXELS}, and latent_overlap lower.",
            )
        self.sampler = AncestralSampler(spaced(settings["steps"]), zero_terminal(alphas_cumprod()), "v_prediction")
        self._cleaner = _cleaner(found[CLEANER]).to(device)
        state = read_tensors(found[STABLE], lazily=True)
        encoder, prompts = loading.ldm_text_encoder(state, found[STABLE]), [settings["negative_prompt"], settings["prompt"]]
        self._text = loading.embed(prompts, encoder, folder_of(found, BASE) / "tokenizer").to(device)
        self._unet = loading.ldm_unet(state, found[STABLE]).to(device)
        self._vae = loading.ldm_vae(state, found[STABLE]).to(device)
        self._control = control_net(read_tensors(found[CONTROL], lazily=True), found[CONTROL]).to(device)
        self.networks = {"unet": self._unet, "control": self._control, "vae": self._vae, "cleaner": self._cleaner}
        loading.again_in_float32(self._vae.decoder, "The decoder of DiffBIR")
        loading.again_in_float32(self._vae.encoder, "The encoder of DiffBIR")
        loading.again_in_float32(self._cleaner, "The first stage of DiffBIR")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> Start:
        """See `DiffusionModel`."""
        size = images.shape[2] * SCALE, images.shape[3] * SCALE
        clean = self._cleaned(enlarge(images, *size))
        known = self._latent(clean)
        condition = {"clean": clean, "known": known, "text": self._text.to(known.device), "size": size}
        return Start(draw(known.shape, sources, known), condition)

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; the velocity."""
        text, guidance = start.condition["text"], self.settings["guidance"]

        def predict(latent: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            wanted = self._call(latent, known, times, text[1])
            return wanted if guidance == 1 else torch.lerp(self._call(latent, known, times, text[0]), wanted, guidance)

        tile, overlap = self.settings["latent_tile"], self.settings["latent_overlap"]
        return predict_in_tiles(predict, latents, start.condition["known"], tile, overlap).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; with the colours of the cleaned images."""
        clean = start.condition["clean"]
        height, width = clean.shape[2:]
        restored = self._vae.decode(latents / loading.LATENT_SCALE).sample[:, :, :height, :width].float() / 2 + 0.5
        restored = COLOR_FIXES[self.settings["color_fix"]](restored, clean)
        return fitted(restored, start.condition["size"], bounded=False)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._latent(self._enlarged(images))

    def _cleaned(self, images: torch.Tensor) -> torch.Tensor:
        """What the first stage makes of the enlarged input: float32, about [0, 1]."""
        images = self._enlarged(images)
        height, width = images.shape[2:]
        return self._cleaner(_padded(images))[:, :, :height, :width].float()

    def _enlarged(self, images: torch.Tensor) -> torch.Tensor:
        """Further, until the shorter side is what the model is shown at least."""
        height, width = images.shape[2:]
        if min(height, width) >= self.least:
            return images
        factor = self.least / min(height, width)
        size = (self.least, int(width * factor)) if height <= width else (int(height * factor), self.least)
        return functional.interpolate(images, size, mode="bicubic", antialias=True)

    def _latent(self, images: torch.Tensor) -> torch.Tensor:
        return self._vae.encode(_padded(images) * 2 - 1).latent_dist.mode().float() * loading.LATENT_SCALE

    def _call(self, latent: torch.Tensor, known: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        words = text.expand(len(latent), -1, -1)
        down, middle = self._control(
            torch.cat([latent, known], 1), times, encoder_hidden_states=words, controlnet_cond=known, return_dict=False
        )
        return self._unet(
            latent, times, encoder_hidden_states=words, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip


class _Nothing(torch.nn.Module):
    def forward(self, condition: torch.Tensor) -> float:
        return 0.0


def control_net(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """IRControlNet: a ControlNet that sees the condition's latent beside the noisy one, not through an encoder of hints."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    what = "DiffBIR's ControlNet"
    with loading.expecting(file, what):
        channels = tuple(state[f"input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0] for i in range(4))
        module: Any = ControlNetModel(
            in_channels=state["input_blocks.0.0.weight"].shape[1], block_out_channels=channels,
            attention_head_dim=tuple(max(1, one // loading.HEAD) for one in channels), use_linear_projection=True,
            cross_attention_dim=state["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        )  # fmt: skip
        module.controlnet_cond_embedding = _Nothing()
        converted = convert_controlnet_checkpoint(state, dict(module.config))
    loading.expect_all_taken(state, converted, what, file)
    return loading.load_strictly(module, converted, what, file)


def _cleaner(file: Path) -> Any:
    """The first stage, a SwinIR over 8×8 pixels at a time, as spandrel builds it."""
    from spandrel import ImageModelDescriptor, ModelLoader

    try:
        descriptor = ModelLoader().load_from_state_dict(read_tensors(file))
    except UserError:
        raise
    except Exception:  # architectures reject foreign tensors with errors of many kinds
        raise UserError(f"{file} holds no network that spandrel knows.", "Put DiffBIR's first stage in its place.") from None
    if not isinstance(descriptor, ImageModelDescriptor) or (descriptor.architecture.id, descriptor.scale) != ("SwinIR", 1):
        raise UserError(
            f"{file} holds {descriptor.architecture.id}, not DiffBIR's first stage, a SwinIR ×1.", f"Put {CLEANER} in its place."
        )
    return descriptor.model.eval().requires_grad_(False)


def _padded(images: torch.Tensor) -> torch.Tensor:
    """Black at the right and the bottom up to multiples of 64."""
    return functional.pad(images, (0, -images.shape[3] % GRID, 0, -images.shape[2] % GRID))
