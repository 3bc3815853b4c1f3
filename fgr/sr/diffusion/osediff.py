"""OSEDiff (arXiv 2406.08177): Stable Diffusion 2.1 base, tuned by LoRA to restore in one step."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import BASE, another_base, folder_of
from fgr.sr.diffusion.latent_tiles import predict_in_tiles, square_tile, weights
from fgr.sr.diffusion.pixels import COLOR_FIXES, enlarge_twice, fitted
from fgr.sr.diffusion.prompts import TAGS, Prompts, Reader, Words, asks_for_words, embed
from fgr.sr.diffusion.samplers import AncestralSampler, Sampler
from fgr.sr.diffusion.stepwise import SCALE, Start, drawn_latents, embedded
from fgr.sr.diffusion.tagger import expect_tagger, open_tagger, open_tokens
from fgr.sr.diffusion.vae_tiles import tile_autoencoder
from fgr.tensors import unpickled

PIXELS, TIME = 8, 999
LORA_ALPHA = 8  # what the adapters were trained with: an adapter of rank r counts 8/r
PARTS = ("state_dict_unet", "state_dict_vae", "rank_unet", "rank_vae")


class OSEDiff:
    """One call of the UNet, from the enlarged input's latent to the image's; the prompt begins with what a tagger sees in it."""

    defaults: Mapping[str, Any] = {
        "prompt": f"{TAGS}, ,", "steps": 1, "color_fix": "adain", "latent_tile": 96, "latent_overlap": 32,
        "encoder_tile": 1024, "decoder_tile": 224, "base": None,
    }  # fmt: skip
    multiple, chop = 1, None
    least = 512  # shorter side in pixels that the model is shown at least
    name = "OSEDiff"
    weigh = staticmethod(weights)  # of latent tiles

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        loading.expect_one_step(settings["steps"], self.name)
        folder = folder_of(found, BASE)
        base = loading.base_parts(folder)
        self.networks = {name: network.to(device) for name, network in self._tuned(base, found).items()}
        self._unet, self._vae = self.networks["unet"], self.networks["vae"]
        words = self._tags(found, device) if asks_for_words(settings["prompt"]) else None
        text_encoder = base["text_encoder"]
        self.text = Prompts(
            settings,
            lambda: partial(embed, encoder=text_encoder(), reader=Reader(folder / "tokenizer")),
            device,
            guided=False,
            words=words,
        )
        self.sampler = self.step()
        tile_autoencoder(self._vae, settings["encoder_tile"], settings["decoder_tile"])
        loading.again_in_float32(self._vae.decoder, f"The decoder of {self.name}")
        loading.again_in_float32(self._vae.encoder, f"The encoder of {self.name}")

    def step(self) -> Sampler:
        """The only step."""
        return AncestralSampler([TIME])

    def _tuned(self, base: Mapping[str, Callable[[], Any]], found: Mapping[str, Path]) -> dict[str, Any]:
        """UNet and autoencoder of the base with what the model's own file adds to them."""
        folder, file = folder_of(found, BASE), found["osediff.pkl"]
        content = read_adapters(file, PARTS, self.name)
        return {
            name: with_adapters(base[name](), content[f"state_dict_{name}"], content[f"rank_{name}"], folder, file)
            for name in ("unet", "vae")
        }

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`; the latents are the input's own."""
        shown = self._shown(images)
        latents = drawn_latents(self._vae, shown * 2 - 1, sources).float() * self._vae.config.scaling_factor
        size = images.shape[2] * SCALE, images.shape[3] * SCALE
        return Start(latents, {"shown": shown, "size": size, **embedded(self.text, images, prompts, latents)})

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        text = start.condition["text"]

        def predict(latent: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return self._call(latent, times, text)

        tile, overlap = square_tile(latents, self.settings["latent_tile"], self.settings["latent_overlap"])
        return predict_in_tiles(predict, latents, latents, tile, overlap, weigh=self.weigh).float()

    def _call(self, latent: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._unet(latent, times, encoder_hidden_states=text, return_dict=False)[0]
        return output

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; with the colours of the inputs."""
        shown = start.condition["shown"]
        restored = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float().clamp(-1, 1) / 2 + 0.5
        return fitted(COLOR_FIXES[self.settings["color_fix"]](restored, shown), start.condition["size"])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        shown = enlarge_twice(images, 1, self.least, PIXELS, Image.Resampling.LANCZOS)
        return self._vae.encode(shown * 2 - 1).latent_dist.mode().float() * self._vae.config.scaling_factor

    def _shown(self, images: torch.Tensor) -> torch.Tensor:
        return enlarge_twice(images, SCALE, self.least, PIXELS, Image.Resampling.LANCZOS)

    def _tags(self, found: Mapping[str, Path], device: torch.device) -> Words:
        """Tags of the enlarged inputs, as the published program takes them."""
        tagger = open_tagger(expect_tagger(found, "osediff"), open_tokens(found), device)
        return lambda images, photos: tagger.tags(self._shown(images))


def with_adapters(module: Any, tensors: Mapping[str, torch.Tensor], rank: int, folder: Path, file: Path) -> Any:
    """`module` with low-rank updates and whole layers of a checkpoint in peft's names. UserError if they do not fit it."""
    own = dict(module.named_parameters())
    left = set(tensors)
    for name in sorted(one for one in tensors if ".base_layer." in one):
        _expect_shape(own, name.replace(".base_layer", ""), tensors[name].shape, folder)
        own[name.replace(".base_layer", "")].data.copy_(tensors[name])
        left.discard(name)
    for name in sorted(one for one in tensors if ".lora_A." in one):
        layer, adapter = name.split(".lora_A.")
        above = tensors.get(f"{layer}.lora_B.{adapter}")
        if above is None:
            raise UserError(
                f"{file} is incomplete: it holds {name}, but not {layer}.lora_B.{adapter}.", "Copy or download it again."
            )
        below = tensors[name]
        shape = (above.shape[0], *below.shape[1:])
        _expect_shape(own, f"{layer}.weight", shape, folder)
        update = above.double().flatten(1) @ below.double().flatten(1) * (LORA_ALPHA / rank)
        weight = own[f"{layer}.weight"].data
        weight.copy_(weight.double() + update.view(shape))
        left -= {name, f"{layer}.lora_B.{adapter}"}
    if left:
        raise UserError(f"{file} holds {len(left)} unknown tensors (first {min(left)}).", "Put the published file in its place.")
    return module


def _expect_shape(own: Mapping[str, Any], name: str, shape: tuple[int, ...], folder: Path) -> None:
    if name not in own:
        raise another_base(folder, f"it has no {name}")
    if own[name].shape != shape:
        raise another_base(folder, f"its {name} has the shape {tuple(own[name].shape)}, not {tuple(shape)}")


def read_adapters(file: Path, parts: Sequence[str], what: str) -> dict[str, Any]:
    """The content of a checkpoint of adapters. UserError if one of its `parts` is not in it."""
    content = unpickled(file)
    if not isinstance(content, dict) or any(part not in content for part in parts):
        raise UserError(f"{file} does not hold {what}'s adapters ({', '.join(parts)}).", f"Put {file.name} in its place.")
    return content
