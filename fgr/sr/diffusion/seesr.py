"""SeeSR (arXiv 2311.16518): Stable Diffusion under a ControlNet, both guided by an image tagger."""

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import predict_in_tiles, square_tile
from fgr.sr.diffusion.pixels import COLOR_FIXES, enlarge_twice, fitted
from fgr.sr.diffusion.prompts import TAGS, Prompts, Reader, Words, asks_for_words, embed
from fgr.sr.diffusion.samplers import STEPS, AncestralSampler
from fgr.sr.diffusion.stepwise import SCALE, Start, draw, embedded
from fgr.sr.diffusion.tagger import expect_tagger, open_tagger, open_tokens
from fgr.sr.diffusion.vae_tiles import tile_autoencoder
from fgr.tensors import read_tensors

PIXELS = 8


class SeeSR:
    """Ancestral sampling from the noised input ("LR embedding"), guided away from the negative prompt.

    The prompt begins with the tagger's words.
    """

    defaults: Mapping[str, Any] = {
        "prompt": f"{TAGS}, ,clean, high-resolution, 8k", "negative_prompt": "dotted, noise, blur, lowres, smooth",
        "guidance": 5.5, "steps": 50, "color_fix": "adain", "latent_tile": 96, "latent_overlap": 4,
        "encoder_tile": 1024, "decoder_tile": 224, "base": None,
    }  # fmt: skip
    multiple, chop = 1, None
    least = 512  # shorter side in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        steps = settings["steps"]
        loading.expect_steps(steps, "SeeSR")
        self.sampler = AncestralSampler([i * (STEPS // steps) + 1 for i in range(steps)])
        self._tagger = open_tokens(found).to(device)
        words = self._tags(found, device) if asks_for_words(settings["prompt"]) else None
        folder = folder_of(found, BASE)
        base = loading.base_parts(folder)
        text_encoder = base["text_encoder"]
        self.text = Prompts(
            settings, lambda: partial(embed, encoder=text_encoder(), reader=Reader(folder / "tokenizer")), device, words=words
        )
        self._vae = base["vae"]().to(device)
        self._seen = Seen()
        self._unet, self._control = (self._seen.network(found, part).to(device) for part in ("unet", "controlnet"))
        tile_autoencoder(self._vae, settings["encoder_tile"], settings["decoder_tile"])
        self.networks = {"unet": self._unet, "control": self._control, "vae": self._vae, "tagger": self._tagger}
        loading.again_in_float32(self._vae.decoder, "The decoder of SeeSR")
        loading.again_in_float32(self._vae.encoder, "The encoder of SeeSR")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        shown = enlarge_twice(images, SCALE, self.least, PIXELS)
        posterior = self._vae.encode(shown * 2 - 1).latent_dist
        noise = draw(posterior.mean.shape, sources, posterior.mean).float()
        known = posterior.mean + posterior.std * draw(posterior.mean.shape, sources, posterior.mean)
        last = torch.full((len(known),), STEPS - 1)
        latents = self.sampler.noised(known.float() * self._vae.config.scaling_factor, noise, last)
        return Start(latents, {
            "tokens": self._tagger(images).float(), **embedded(self.text, images, prompts, latents), "shown": shown,
            "size": (images.shape[2] * SCALE, images.shape[3] * SCALE),
        })  # fmt: skip

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        condition, guidance = start.condition, self.settings["guidance"]
        self._seen.tokens = condition["tokens"]

        def predict(latent: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
            shown = functional.pixel_shuffle(hint, PIXELS)
            wanted = self._call(times, latent, shown, condition["text"])
            if guidance == 1:
                return wanted
            return torch.lerp(self._call(times, latent, shown, condition["without"]), wanted, guidance)

        hint = functional.pixel_unshuffle(condition["shown"], PIXELS)  # of the latent's size, so that tiles of both are the same
        tile, overlap = square_tile(latents, self.settings["latent_tile"], self.settings["latent_overlap"])
        return predict_in_tiles(predict, latents, hint, tile, overlap).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; with the colours of the inputs."""
        restored = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float().clamp(-1, 1) / 2 + 0.5
        return fitted(COLOR_FIXES[self.settings["color_fix"]](restored, start.condition["shown"]), start.condition["size"])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        shown = enlarge_twice(images, 1, self.least, PIXELS)
        return self._vae.encode(shown * 2 - 1).latent_dist.mode().float() * self._vae.config.scaling_factor

    def _tags(self, found: Mapping[str, Path], device: torch.device) -> Words:
        """Tags of the inputs."""
        tagger = open_tagger(expect_tagger(found, "seesr"), self._tagger, device)
        return lambda images, photos: tagger.tags(images)

    def _call(self, times: torch.Tensor, latent: torch.Tensor, shown: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        words = text.expand(len(latent), -1, -1)
        down, middle = self._control(latent, times, encoder_hidden_states=words, controlnet_cond=shown, return_dict=False)
        return self._unet(
            latent, times, encoder_hidden_states=words, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip


class Seen:
    """The tokens that the second attentions of the networks look at; set before the networks run."""

    tokens: torch.Tensor

    def network(self, found: Mapping[str, Path], part: str) -> Any:
        """The UNet or the ControlNet with an attention to the image's tokens after each attention to the text, whole."""
        import diffusers

        folder = found[f"seesr/{part}/config.json"].parent
        kind: Any = {"unet": diffusers.UNet2DConditionModel, "controlnet": diffusers.ControlNetModel}[part]
        file = found[f"seesr/{part}/diffusion_pytorch_model.safetensors"]
        try:
            config = json.loads((folder / "config.json").read_text())
            module = _built(kind, config)
        except Exception as error:  # configurations fail in many ways
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{folder / 'config.json'} describes no {kind.__name__} ({reason}).", "Fetch it again.") from None
        state = read_tensors(file)
        second = [name for name in state if "image_attentions" in name and name.endswith("attn2.to_k.weight")]
        if not second:
            raise UserError(f"{file} does not hold SeeSR's {part}: it has no image_attentions.", "Put the right file there.")
        for block in [*module.down_blocks, module.mid_block, *getattr(module, "up_blocks", [])]:
            if hasattr(block, "attentions"):
                width = state[second[0]].shape[1]
                block.image_attentions = torch.nn.ModuleList(self._beside(one, width) for one in block.attentions)
        return loading.load_strictly(module, state, f"SeeSR's {part}", file)

    def _beside(self, attention: Any, width: int) -> Any:
        """An attention like `attention` to tokens of `width`, which runs on its output."""
        beside = _built(type(attention), {**attention.config, "cross_attention_dim": width})
        attention.register_forward_hook(
            lambda module, inputs, output: beside(output[0], encoder_hidden_states=self.tokens, return_dict=False)
        )
        return beside


def _built(kind: Any, config: Mapping[str, Any]) -> Any:
    """A module of diffusers, of what its class knows of a configuration."""
    known = inspect.signature(kind.__init__).parameters
    return kind(**{key: value for key, value in config.items() if key in known})
