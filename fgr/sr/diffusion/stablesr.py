"""StableSR (arXiv 2305.07015): Stable Diffusion with a structure encoder and a wrapped decoder."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import Chop, predict_in_tiles, weights
from fgr.sr.diffusion.pixels import COLOR_FIXES
from fgr.sr.diffusion.prompts import Embed, Prompts, Reader, embed
from fgr.sr.diffusion.samplers import STEPS, AncestralSampler, ToldDdimSampler, spaced
from fgr.sr.diffusion.stablesr_networks import Structure, Wrapping, structure_encoder
from fgr.sr.diffusion.stepwise import SCALE, Start, draw, drawn_latents, embedded
from fgr.tensors import read_tensors

PIXELS = 8  # of the image to one of the latent
STRUCTURE, FUSION, LOSS = "structcond_stage_model.", "decoder.fusion_layer_", "loss."
GRID = 32  # pixels: sides of what is encoded are multiples of it


class StableSR:
    """Ancestral sampling. Each of the published scripts has a start and a kernel of its own: one for a single latent tile (512
    pixels), one for all other sizes; "auto" is the script for the size."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "", "guidance": 1.0, "steps": 200, "cfw": 0.5, "color_fix": "adain",
        "latent_tile": 64, "latent_overlap": 32, "start": "auto", "input": "auto", "chop": 320, "chop_overlap": 70,
    }  # fmt: skip
    multiple = 1

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        main, wrapped = list(found.values())[:2]
        self.settings = settings
        self.chop = Chop.of(settings, weights)
        self.smallest_tile = settings["latent_tile"] * PIXELS // SCALE
        if settings["latent_overlap"] >= settings["latent_tile"]:
            raise UserError(
                f"Latent tiles of {settings['latent_tile']} cannot overlap by {settings['latent_overlap']}.",
                "Lower latent_overlap, or raise latent_tile: StableSR enlarges its inputs until they fill a tile.",
            )
        loading.expect_steps(settings["steps"], "StableSR")
        self.sampler = self.steps(settings["steps"])
        state = read_tensors(main, lazily=True)
        _expect_slot(state, main, STRUCTURE, "StableSR's main checkpoint (stablesr_*.ckpt)")
        tokenizer = folder_of(found, BASE) / "tokenizer" if any(name.startswith(BASE) for name in found) else None
        self.text = Prompts(settings, lambda: _text_encoder(main, tokenizer), device, guided=settings["guidance"] != 1)
        self._structure = Structure()
        own = {key.removeprefix(STRUCTURE): value for key, value in state.items() if key.startswith(STRUCTURE)}
        self._encoder = loading.load_strictly(structure_encoder(own), own, "StableSR's structure encoder", main).to(device)
        width = own["fea_tran.0.out_layers.3.weight"].shape[0]
        self._unet = loading.ldm_unet(state, main, lambda unet: self._structure.attach(unet, width)).to(device)
        del state, own
        self._vae = _wrapped_vae(wrapped, settings["cfw"]).to(device)
        self.networks = {"unet": self._unet, "structure encoder": self._encoder, "vae": self._vae}
        loading.again_in_float32(self._vae.decoder, "The decoder of StableSR")
        loading.again_in_float32(self._vae.encoder, "The encoder of StableSR")

    def steps(self, number: int) -> AncestralSampler | ToldDdimSampler:
        """The denoising steps as published."""
        return AncestralSampler(spaced(number))

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        single = max(self._size(images, SCALE)) <= self.settings["latent_tile"] * PIXELS
        kernel, origin = (self.settings[key] for key in ("input", "start"))
        kernel = ("bilinear" if single else "bicubic") if kernel == "auto" else kernel
        enlarged = self._enlarged(images * 2 - 1, SCALE, kernel)
        inner = enlarged.shape[2:]
        down, right = ((GRID - side % GRID if any(one % GRID for one in inner) else 0) for side in inner)
        shown = functional.pad(enlarged, (0, right, 0, down), mode="reflect")
        known = drawn_latents(self._vae, shown, sources).float() * loading.LATENT_SCALE
        beginning = draw(known.shape, sources, known)
        if origin == "noise" or (origin == "auto" and single):
            latents = draw(known.shape, sources, known)
        else:
            latents = self.sampler.noised(known, beginning, torch.full((len(known),), STEPS - 1))
        return Start(latents, {
            **embedded(self.text, images, prompts, known), "known": known, "shown": shown,
            "features": self._vae.wrapping.take(), "inner": tuple(inner),
            "size": (images.shape[2] * SCALE, images.shape[3] * SCALE),
        })  # fmt: skip

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        settings, guidance, condition = self.settings, self.settings["guidance"], start.condition

        def predict(latent: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
            self._structure.features = self._encoder(known, times)
            wanted = self._call(latent, times, condition["text"])
            return wanted if guidance == 1 else torch.lerp(self._call(latent, times, condition["without"]), wanted, guidance)

        known = condition["known"]
        return predict_in_tiles(predict, latents, known, settings["latent_tile"], settings["latent_overlap"]).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        condition = start.condition
        self._vae.wrapping.features = condition["features"]
        decoded = self._vae.decode(latents / loading.LATENT_SCALE).sample
        self._vae.wrapping.take()
        height, width = condition["inner"]
        restored = COLOR_FIXES[self.settings["color_fix"]](decoded.float(), condition["shown"])[:, :, :height, :width]
        if condition["inner"] != condition["size"]:  # it was enlarged to the size that the model knows
            restored = functional.interpolate(restored.clamp(-1, 1), condition["size"], mode="bicubic")
        return restored / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        mode = self._vae.encode(self._enlarged(images * 2 - 1, 1, "bicubic")).latent_dist.mode()
        self._vae.wrapping.take()
        return mode.float() * loading.LATENT_SCALE

    def _enlarged(self, images: torch.Tensor, scale: int, kernel: str) -> torch.Tensor:
        """By `scale`, or more: until the shorter side fills a latent tile."""
        return functional.interpolate(images, self._size(images, scale), mode=kernel).clamp(-1, 1)

    def _size(self, images: torch.Tensor, scale: int) -> tuple[int, int]:
        height, width = images.shape[2:]
        factor = max(self.settings["latent_tile"] * PIXELS / min(height, width), scale)
        return int(height * factor), int(width * factor)

    def _call(self, latent: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self._unet(latent, times, encoder_hidden_states=text.expand(len(latent), -1, -1), return_dict=False)[0]


class StableSRTurbo(StableSR):
    """The same networks, tuned for few steps."""

    defaults: Mapping[str, Any] = {**StableSR.defaults, "steps": 4, "color_fix": "wavelet"}


class StableSR768(StableSR):
    """Tuned at 768 pixels to predict the velocity; sampled by DDIM away from a negative prompt, without the wrapped decoder."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "3d, cartoon, anime, sketches, (worst quality:2), (low quality:2)", "guidance": 7.0,
        "steps": 20, "eta": 1.0, "cfw": 0.0, "color_fix": "wavelet", "latent_tile": 96, "latent_overlap": 48, "start": "noise",
        "input": "bicubic", "chop": 320, "chop_overlap": 70,
    }  # fmt: skip

    def steps(self, number: int) -> AncestralSampler | ToldDdimSampler:
        """The denoising steps as published."""
        return ToldDdimSampler(number, "v_prediction", self.settings["eta"])


def _text_encoder(main: Path, tokenizer: Path | None) -> Embed:
    encoder = loading.ldm_text_encoder(read_tensors(main, lazily=True), main)
    return partial(embed, encoder=encoder, reader=Reader(tokenizer, cleaned=True))


def _wrapped_vae(file: Path, weight: float) -> Any:
    """The autoencoder with its fusions, as `vae.wrapping`."""
    state = {key: value for key, value in read_tensors(file, lazily=True).items() if not key.startswith(LOSS)}
    _expect_slot(state, file, FUSION, "StableSR's autoencoder with CFW (vqgan_cfw_*.ckpt)")
    fusion = {key.removeprefix("decoder."): value for key, value in state.items() if key.startswith(FUSION)}
    rest = {key: value for key, value in state.items() if not key.startswith(FUSION)}
    vae = loading.ldm_vae(rest, file, prefix="")
    vae.wrapping = loading.load_strictly(Wrapping(vae, weight), fusion, "StableSR's CFW blocks", file)
    return vae


def _expect_slot(state: Mapping[str, torch.Tensor], file: Path, prefix: str, what: str) -> None:
    if not any(key.startswith(prefix) for key in state):
        raise UserError(f"{file} is not {what}: it holds no tensor {prefix}….", "Put the right file in its place.")
