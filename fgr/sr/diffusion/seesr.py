"""SeeSR (arXiv 2311.16518): Stable Diffusion under a ControlNet, both of which also attend to what a tagger sees in the image."""

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import canvas, color, enlarge, files, half, noise, ram, sd21_base, text
from fgr.sr.diffusion.ddpm import STEPS, Chain
from fgr.sr.diffusion.files import load_strictly
from fgr.tensors import read_tensors

SCALE, PIXELS = 4, 8
RAM, DAPE = "ram_swin_large_14m.pth", "DAPE.pth"


class SeeSR:
    """Ancestral sampling from the noised input ("LR embedding"), guided away from the negative prompt.

    The published program also writes the tagger's words before the prompt; here the prompt is the recipe's alone.
    """

    defaults: Mapping[str, Any] = {
        "prompt": "clean, high-resolution, 8k", "negative_prompt": "dotted, noise, blur, lowres, smooth", "guidance": 5.5,
        "steps": 50, "color_fix": "adain", "latent_tile": 96, "latent_overlap": 4, "base": None,
    }  # fmt: skip
    multiple = 1
    least = 512  # shorter side in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        self.knobs = knobs
        self.smallest_tile = self.least // SCALE
        self._chain = Chain([i * (STEPS // knobs["steps"]) + 1 for i in range(knobs["steps"])])
        state, adapters = read_tensors(found[RAM], lazily=True), read_tensors(found[DAPE])
        self._tokens = ram.tokens(state, adapters, found[RAM], found[DAPE]).to(device)
        folder = files.folder_of(found, sd21_base.FOLDER)
        prompts = [knobs["negative_prompt"], knobs["prompt"]]
        self._text = text.embed(prompts, sd21_base.text_encoder(folder), folder / "tokenizer").to(device)
        self._vae = sd21_base.vae(folder).to(device)
        self._seen = Seen()
        self._unet, self._control = (self._seen.network(found, part).to(device) for part in ("unet", "controlnet"))
        self.networks = {"unet": self._unet, "control": self._control, "vae": self._vae, "tokens": self._tokens}
        half.again_in_float32(self._vae.decoder, "The decoder of SeeSR")
        half.again_in_float32(self._vae.encoder, "The encoder of SeeSR")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        height, width = images.shape[2] * SCALE, images.shape[3] * SCALE
        self._seen.tokens = self._tokens(images).float()
        shown = enlarge.twice(images, SCALE, self.least, PIXELS)
        restored = self._restored(shown, sources).clamp(-1, 1) / 2 + 0.5
        restored = color.FIXES[self.knobs["color_fix"]](restored, shown)
        if restored.shape[2:] == (height, width):
            return restored
        return functional.interpolate(restored.clamp(0, 1), (height, width), mode="bicubic", antialias=True)

    def _restored(self, shown: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] → the same size, nominally in [−1, 1]."""
        posterior = self._vae.encode(shown * 2 - 1).latent_dist
        drawn = noise.draw(posterior.mean.shape, sources, posterior.mean).float()
        known = posterior.mean + posterior.std * noise.draw(posterior.mean.shape, sources, posterior.mean)
        now = self._chain.noised(known.float() * self._vae.config.scaling_factor, STEPS - 1, drawn)
        hint = functional.pixel_unshuffle(shown, PIXELS)  # of the latent's size, so that tiles of both are the same
        tile, overlap = canvas.square(now.shape[2], now.shape[3], self.knobs["latent_tile"], self.knobs["latent_overlap"])
        for i in reversed(range(len(self._chain.times))):
            times = torch.full((len(now),), self._chain.times[i], device=now.device)
            predicted = canvas.merged(partial(self._guided, times), now, hint, tile, overlap)
            start = self._chain.start(now, i, predicted.float())
            now = self._chain.step(now, i, start, noise.draw(now.shape, sources, now) if i else None)
        return self._vae.decode(now / self._vae.config.scaling_factor).sample.float()

    def _guided(self, times: torch.Tensor, latent: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
        guidance, shown = self.knobs["guidance"], functional.pixel_shuffle(hint, PIXELS)
        wanted = self._call(times, latent, shown, 1)
        return wanted if guidance == 1 else torch.lerp(self._call(times, latent, shown, 0), wanted, guidance)

    def _call(self, times: torch.Tensor, latent: torch.Tensor, shown: torch.Tensor, prompt: int) -> torch.Tensor:
        words = self._text[prompt].expand(len(latent), -1, -1)
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
            raise UserError(f"{folder / 'config.json'} describes no {kind.__name__} ({reason}).", "Fetch it anew.") from None
        state = read_tensors(file)
        second = [name for name in state if "image_attentions" in name and name.endswith("attn2.to_k.weight")]
        if not second:
            raise UserError(f"{file} does not hold SeeSR's {part}: it has no image_attentions.", "Put the right file there.")
        for block in [*module.down_blocks, module.mid_block, *getattr(module, "up_blocks", [])]:
            if hasattr(block, "attentions"):
                width = state[second[0]].shape[1]
                block.image_attentions = torch.nn.ModuleList(self._beside(one, width) for one in block.attentions)
        return load_strictly(module, state, f"SeeSR's {part}", file)

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
