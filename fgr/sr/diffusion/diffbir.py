"""DiffBIR 2.1 and 2 (arXiv 2308.15070): a restoration network, then diffusion under a ControlNet."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.captions import open_captions
from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import predict_in_tiles
from fgr.sr.diffusion.pixels import COLOR_FIXES, enlarge, fitted
from fgr.sr.diffusion.prompts import Embed, Prompts, Reader, asks_for_words, embed
from fgr.sr.diffusion.samplers import AncestralSampler, MultistepSampler, Sampler, alphas_cumprod, spaced, zero_terminal
from fgr.sr.diffusion.stepwise import SCALE, Start, draw, embedded
from fgr.tensors import read_tensors

PIXELS, GRID, LATENT_GRID = 8, 64, 8
CLEANER, CONTROL, STABLE = "realesrgan_s4_swinir_100k.pth", "DiffBIR_v2.1.pt", "sd2.1-base-zsnr-laionaes5.ckpt"
CLEANER_2, CONTROL_2 = "BSRNet.pth", "v2.pth"


class DiffBIR:
    """Version 2.1: DPM++ 3M SDE of the velocity, guided away from the negative prompt; colours from the cleaned image."""

    defaults: Mapping[str, Any] = {
        "prompt": "{caption}, Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo "
        "- realistic maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing, skin pore detailing, hyper "
        "sharpness, perfect without deformations.",
        "negative_prompt": "painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D "
        "render, unreal engine, blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, jpeg "
        "artifacts, deformed, lowres, over-smooth.",
        "guidance": 8.0, "steps": 10, "color_fix": "wavelet", "latent_tile": 0, "latent_overlap": 32, "captions": "blip",
        "base": None,
    }  # fmt: skip
    multiple, chop = 1, None
    least = 512  # shorter side in pixels that the model is shown at least
    name = "DiffBIR 2.1"
    cleaner_file, control_file = CLEANER, CONTROL
    cleaner_network = ("SwinIR", 1)  # as spandrel calls it, and its factor

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        _expect_settings(settings)
        self.sampler = self.steps(settings["steps"])
        cleaner = _cleaner(found[self.cleaner_file], self.cleaner_network, self.name)
        networks = {"cleaner": cleaner} | self._stable_diffusion(found)
        words = open_captions(settings["captions"], device) if asks_for_words(settings["prompt"]) else None
        self.text = Prompts(settings, lambda: self._text_encoder(found), device, words=words)
        networks["control"] = control_net(read_tensors(found[self.control_file], lazily=True), found[self.control_file])
        self.networks = {name: network.to(device) for name, network in networks.items()}
        self._unet, self._vae, self._control, self._cleaner = (
            self.networks[name] for name in ("unet", "vae", "control", "cleaner")
        )
        loading.again_in_float32(self._vae.decoder, "The decoder of DiffBIR")
        loading.again_in_float32(self._vae.encoder, "The encoder of DiffBIR")
        loading.again_in_float32(self._cleaner, "The first stage of DiffBIR")

    def steps(self, number: int) -> Sampler:
        """The denoising steps as published."""
        return MultistepSampler(number, zero_terminal(alphas_cumprod()), "v_prediction")

    def _stable_diffusion(self, found: Mapping[str, Path]) -> dict[str, Any]:
        """UNet and autoencoder of a Stable Diffusion tuned to a schedule without signal at its end."""
        state, file = read_tensors(found[STABLE], lazily=True), found[STABLE]
        return {"unet": loading.ldm_unet(state, file), "vae": loading.ldm_vae(state, file)}

    def _text_encoder(self, found: Mapping[str, Path]) -> Embed:
        encoder = loading.ldm_text_encoder(read_tensors(found[STABLE], lazily=True), found[STABLE])
        return partial(embed, encoder=encoder, reader=Reader(folder_of(found, BASE) / "tokenizer", cleaned=True))

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        size = images.shape[2] * SCALE, images.shape[3] * SCALE
        clean = self._cleaned(images)
        known, inner = self._latent(clean)
        condition = {"clean": clean, "known": known, "inner": inner, "size": size}
        condition |= embedded(self.text, images, prompts, known)
        return Start(draw(known.shape, sources, known), condition)

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        text, without, guidance = start.condition["text"], start.condition["without"], self.settings["guidance"]

        def predict(latent: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            wanted = self._call(latent, known, times, text)
            return wanted if guidance == 1 else torch.lerp(self._call(latent, known, times, without), wanted, guidance)

        tile = self.settings["latent_tile"] if self._tiled(latents) else max(latents.shape[2:])
        overlap = self.settings["latent_overlap"] if self._tiled(latents) else 0
        return predict_in_tiles(predict, latents, start.condition["known"], tile, overlap).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; with the colours of the cleaned images."""
        clean, inner = start.condition["clean"], start.condition["inner"]
        height, width = clean.shape[2:]
        decoded = self._vae.decode(latents[:, :, : inner[0], : inner[1]] / loading.LATENT_SCALE).sample
        restored = decoded[:, :, :height, :width].float() / 2 + 0.5
        restored = COLOR_FIXES[self.settings["color_fix"]](restored, clean)
        return fitted(restored, start.condition["size"], bounded=False)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._latent(self._enlarged(images))[0]

    def _cleaned(self, images: torch.Tensor) -> torch.Tensor:
        """What the first stage makes of the enlarged input: float32, about [0, 1]."""
        images = self._enlarged(enlarge(images, images.shape[2] * SCALE, images.shape[3] * SCALE))
        height, width = images.shape[2:]
        return self._cleaner(_padded(images, GRID))[:, :, :height, :width].float()

    def _enlarged(self, images: torch.Tensor) -> torch.Tensor:
        """Further, until the shorter side is what the model is shown at least."""
        height, width = images.shape[2:]
        if min(height, width) >= self.least:
            return images
        factor = self.least / min(height, width)
        size = (self.least, int(width * factor)) if height <= width else (int(height * factor), self.least)
        return functional.interpolate(images, size, mode="bicubic", antialias=True)

    def _tiled(self, latents: torch.Tensor) -> bool:
        """Whether latents are predicted in tiles: on request, and where no side is shorter than a tile."""
        return 0 < self.settings["latent_tile"] <= min(latents.shape[2:])

    def _latent(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
        """The latents of images, black beyond their right and bottom sides up to what the networks take, and the size of what
        is not cut off again. Tiles need less of it, and the last ones see as little of it as possible."""
        grid = PIXELS if self.settings["latent_tile"] else GRID
        latents = self._vae.encode(_padded(images, grid) * 2 - 1).latent_dist.mode().float() * loading.LATENT_SCALE
        inner = tuple(latents.shape[2:])
        return (latents if self._tiled(latents) else _padded(latents, LATENT_GRID)), inner

    def _call(self, latent: torch.Tensor, known: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        words = text.expand(len(latent), -1, -1)
        down, middle = self._control(
            torch.cat([latent, known], 1), times, encoder_hidden_states=words, controlnet_cond=known, return_dict=False
        )
        return self._unet(
            latent, times, encoder_hidden_states=words, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip


class DiffBIR2(DiffBIR):
    """Version 2: another first stage, which enlarges itself, on Stable Diffusion 2.1 base; ancestral sampling of the noise."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "low quality, blurry, low-resolution, noisy, unsharp, weird textures",
        "guidance": 4.0, "steps": 50, "color_fix": "wavelet", "latent_tile": 0, "latent_overlap": 32, "captions": "blip",
        "base": None,
    }  # fmt: skip
    name = "DiffBIR 2"
    cleaner_file, control_file = CLEANER_2, CONTROL_2
    cleaner_network = ("ESRGAN", SCALE)

    def steps(self, number: int) -> Sampler:
        """The denoising steps as published."""
        return AncestralSampler(spaced(number))

    def _stable_diffusion(self, found: Mapping[str, Path]) -> dict[str, Any]:
        """UNet and autoencoder of Stable Diffusion 2.1 base."""
        base = loading.base_parts(folder_of(found, BASE))
        return {"unet": base["unet"](), "vae": base["vae"]()}

    def _text_encoder(self, found: Mapping[str, Path]) -> Embed:
        folder = folder_of(found, BASE)
        encoder = loading.base_parts(folder)["text_encoder"]()
        return partial(embed, encoder=encoder, reader=Reader(folder / "tokenizer", cleaned=True))

    def _cleaned(self, images: torch.Tensor) -> torch.Tensor:
        """What the first stage makes of the input: float32, about [0, 1], of the size that the model is shown."""
        return self._enlarged(self._cleaner(images).float())


def _expect_settings(settings: Mapping[str, Any]) -> None:
    """UserError for latent tiles that do not fit the networks or each other, and for a single step."""
    tile, overlap = settings["latent_tile"], settings["latent_overlap"]
    if tile % PIXELS or (tile and overlap >= tile):
        raise UserError(
            f"Latent tiles of {tile} cannot overlap by {overlap}.",
            f"Set latent_tile to a multiple of {PIXELS}, or to 0 for whole images, and latent_overlap lower.",
        )
    loading.expect_steps(settings["steps"], "DiffBIR")


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


def _cleaner(file: Path, expected: tuple[str, int], what: str) -> Any:
    """The first stage as spandrel builds it, of an `expected` architecture and factor. UserError for another network."""
    from spandrel import ImageModelDescriptor, ModelLoader

    try:
        descriptor = ModelLoader().load_from_state_dict(read_tensors(file))
    except UserError:
        raise
    except Exception:  # architectures reject foreign tensors with errors of many kinds
        raise UserError(f"{file} holds no network that spandrel knows.", f"Put the first stage of {what} in its place.") from None
    if not isinstance(descriptor, ImageModelDescriptor) or (descriptor.architecture.id, descriptor.scale) != expected:
        network, factor = expected
        raise UserError(
            f"{file} holds {descriptor.architecture.id} ×{descriptor.scale}, not the first stage of {what}, {network} ×{factor}.",
            f"Put {file.name} as it was released in its place; the versions of DiffBIR have first stages of their own.",
        )
    return descriptor.model.eval().requires_grad_(False)


def _padded(images: torch.Tensor, grid: int) -> torch.Tensor:
    """Zeros at the right and the bottom up to multiples of `grid`."""
    return functional.pad(images, (0, -images.shape[3] % grid, 0, -images.shape[2] % grid))
