"""SeeSR (arXiv 2311.16518): Stable Diffusion under a ControlNet, both guided by an image tagger.

What the tagger sees: tokens of the Recognize Anything Model's Swin (Zhang et al., arXiv 2306.03514), tuned for degraded images
(DAPE) by LoRA, section 3.2.
"""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import predict_in_tiles, square_tile
from fgr.sr.diffusion.pixels import COLOR_FIXES, enlarge_twice, fitted
from fgr.sr.diffusion.samplers import STEPS, AncestralSampler
from fgr.sr.diffusion.stepwise import SCALE, Start, draw
from fgr.tensors import read_tensors

PIXELS = 8
RAM, DAPE = "ram_swin_large_14m.pth", "DAPE.pth"
SIDE, PATCH = 384, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER, PROJECTION = "visual_encoder.", "image_proj."
LORA_ALPHA = 1.0  # of DAPE: an adapter of rank r counts 1/r


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

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        steps = settings["steps"]
        self.sampler = AncestralSampler([i * (STEPS // steps) + 1 for i in range(steps)])
        state, adapters = read_tensors(found[RAM], lazily=True), read_tensors(found[DAPE])
        self._tagger = tagger(state, adapters, found[RAM], found[DAPE]).to(device)
        folder = folder_of(found, BASE)
        base, prompts = loading.base_parts(folder), [settings["negative_prompt"], settings["prompt"]]
        self._text = loading.embed(prompts, base["text_encoder"](), folder / "tokenizer").to(device)
        self._vae = base["vae"]().to(device)
        self._seen = Seen()
        self._unet, self._control = (self._seen.network(found, part).to(device) for part in ("unet", "controlnet"))
        self.networks = {"unet": self._unet, "control": self._control, "vae": self._vae, "tagger": self._tagger}
        loading.again_in_float32(self._vae.decoder, "The decoder of SeeSR")
        loading.again_in_float32(self._vae.encoder, "The encoder of SeeSR")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> Start:
        """See `DiffusionModel`."""
        shown = enlarge_twice(images, SCALE, self.least, PIXELS)
        posterior = self._vae.encode(shown * 2 - 1).latent_dist
        noise = draw(posterior.mean.shape, sources, posterior.mean).float()
        known = posterior.mean + posterior.std * draw(posterior.mean.shape, sources, posterior.mean)
        last = torch.full((len(known),), STEPS - 1)
        latents = self.sampler.noised(known.float() * self._vae.config.scaling_factor, noise, last)
        return Start(latents, {
            "tokens": self._tagger(images).float(), "text": self._text.to(latents.device), "shown": shown,
            "size": (images.shape[2] * SCALE, images.shape[3] * SCALE),
        })  # fmt: skip

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        condition, guidance = start.condition, self.settings["guidance"]
        self._seen.tokens = condition["tokens"]

        def predict(latent: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
            shown = functional.pixel_shuffle(hint, PIXELS)
            wanted = self._call(times, latent, shown, condition["text"][1])
            if guidance == 1:
                return wanted
            return torch.lerp(self._call(times, latent, shown, condition["text"][0]), wanted, guidance)

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


class Tokens(nn.Module):
    """(B, 3, H, W) in [0, 1] → (B, 1 + 144, 512): the mean over the image, then its places."""

    def __init__(self, encoder: Any, out: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.image_proj = nn.Linear(encoder.num_features, out)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean, deviation = (images.new_tensor(one)[:, None, None] for one in (MEAN, DEVIATION))
        seen = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        places = self.encoder.forward_features((seen - mean) / deviation).flatten(1, 2)
        return self.image_proj(torch.cat([places.mean(1, keepdim=True), places], 1))


def tagger(state: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], file: Path, adapter_file: Path) -> Tokens:
    """The network of RAM's checkpoint with DAPE's adapters merged in. UserError if the files do not hold them."""
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    what = "RAM's image encoder"
    own = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    with loading.expecting(file, what):
        depths = tuple(len({name.split(".")[3] for name in own if name.startswith(f"layers.{i}.blocks.")}) for i in range(4))
        tables = [own[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
        encoder = SwinTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=own["patch_embed.proj.weight"].shape[0], depths=depths, num_classes=0,
            num_heads=tuple(table.shape[1] for table in tables), window_size=(math.isqrt(len(tables[0])) + 1) // 2,
        )  # fmt: skip
        projection = {name: state[f"{PROJECTION}{name}"] for name in ("weight", "bias")}
    merged = _merged(own, adapters, adapter_file)
    loading.load_strictly(encoder, checkpoint_filter_fn(merged, encoder), what, file)
    network = Tokens(encoder, len(projection["bias"]))
    network.image_proj.load_state_dict(projection)
    return network.eval().requires_grad_(False)


def _merged(own: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Queries and values of every block with their low-rank updates; keys have none."""
    merged = dict(own)
    blocks = [name.removesuffix(".weight") for name in own if name.endswith("attn.qkv.weight")]
    for block in blocks:
        with loading.expecting(file, "DAPE's adapters"):
            below, above = (adapters[f"{ENCODER}{block}.lora_{part}"] for part in "AB")
        rank, width = below.shape[0] // 2, own[f"{block}.weight"].shape[1]
        if above.shape != (2 * width, rank) or below.shape[1] != width:
            raise UserError(f"{file} does not fit RAM: {block} is {width} wide.", "Put DAPE.pth of SeeSR in its place.")
        query, value = (above[i * width : (i + 1) * width] @ below[i * rank : (i + 1) * rank] for i in (0, 1))
        update = torch.cat([query, torch.zeros_like(query), value]) * (LORA_ALPHA / rank)
        merged[f"{block}.weight"] = own[f"{block}.weight"] + update
    return merged
