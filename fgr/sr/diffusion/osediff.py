"""OSEDiff (arXiv 2406.08177): Stable Diffusion 2.1 base, tuned by LoRA to restore in one step."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import canvas, color, enlarge, files, half, noise, sd21_base, text
from fgr.sr.diffusion.ddpm import alphas_cumprod
from fgr.tensors import unpickled

SCALE, PIXELS, TIME = 4, 8, 999
LORA_ALPHA = 8  # what the adapters were trained with: an adapter of rank r counts 8/r
PARTS = ("state_dict_unet", "state_dict_vae", "rank_unet", "rank_vae")


class OSEDiff:
    """One call of the UNet, from the enlarged input's latent to the image's.

    The published program writes the prompt by an image tagger; here it is empty unless the recipe gives one.
    """

    defaults: Mapping[str, Any] = {
        "prompt": "", "steps": 1, "color_fix": "adain", "latent_tile": 96, "latent_overlap": 32, "base": None,
    }  # fmt: skip
    multiple = 1
    least = 512  # shorter side in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        self.knobs = knobs
        self.smallest_tile = self.least // SCALE
        if knobs["steps"] != 1:
            raise UserError(f"OSEDiff has one step, and {knobs['steps']} are asked for.", "Leave steps out, or set it to 1.")
        folder, file = files.folder_of(found, sd21_base.FOLDER), found["osediff.pkl"]
        adapters = _read(file)
        self._unet = merged(sd21_base.unet(folder), adapters["state_dict_unet"], adapters["rank_unet"], folder, file).to(device)
        self._vae = merged(sd21_base.vae(folder), adapters["state_dict_vae"], adapters["rank_vae"], folder, file).to(device)
        self.text = text.embed([knobs["prompt"]], sd21_base.text_encoder(folder), folder / "tokenizer").to(device)
        signal = float(alphas_cumprod()[TIME])
        self._signal, self._noise = math.sqrt(signal), math.sqrt(1 - signal)
        self.networks = {"unet": self._unet, "vae": self._vae}
        half.again_in_float32(self._vae.decoder, "The decoder of OSEDiff")
        half.again_in_float32(self._vae.encoder, "The encoder of OSEDiff")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        shown = self.shown(images)
        known = self.encoded(shown, sources)
        return self.decoded(self.step(known, self.predicted(known)), shown, images.shape[2] * SCALE, images.shape[3] * SCALE)

    def shown(self, images: torch.Tensor) -> torch.Tensor:
        """Inputs (B, 3, h, w) in [0, 1] as the networks see them, enlarged."""
        return enlarge.twice(images, SCALE, self.least, PIXELS, Image.Resampling.LANCZOS)

    def encoded(self, shown: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """A latent of each image, drawn from what the encoder says of it."""
        posterior = self._vae.encode(shown * 2 - 1).latent_dist
        drawn = noise.draw(posterior.mean.shape, sources, posterior.mean)
        return (posterior.mean + posterior.std * drawn).float() * self._vae.config.scaling_factor

    def predicted(self, known: torch.Tensor) -> torch.Tensor:
        """What the UNet takes for noise in latents of inputs, in tiles where they are large."""
        tile, overlap = canvas.square(known.shape[2], known.shape[3], self.knobs["latent_tile"], self.knobs["latent_overlap"])
        return canvas.merged(self._predicted, known, known, tile, overlap).float()

    def step(self, known: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        """The latents of restored images."""
        return (known - self._noise * predicted) / self._signal

    def decoded(self, latents: torch.Tensor, shown: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Images (B, 3, height, width), nominally in [0, 1], with the colours of the inputs."""
        restored = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float().clamp(-1, 1) / 2 + 0.5
        restored = color.FIXES[self.knobs["color_fix"]](restored, shown)
        if restored.shape[2:] == (height, width):
            return restored
        return functional.interpolate(restored.clamp(0, 1), (height, width), mode="bicubic", antialias=True)

    def _predicted(self, latent: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        times = torch.full((len(latent),), TIME, device=latent.device)
        return self._unet(latent, times, encoder_hidden_states=self.text.expand(len(latent), -1, -1), return_dict=False)[0]


def merged(module: Any, tensors: Mapping[str, torch.Tensor], rank: int, folder: Path, file: Path) -> Any:
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
                f"{file} is not whole: it holds {name}, but no {layer}.lora_B.{adapter}.", "Copy or download it anew."
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
        raise sd21_base.another(folder, f"it has no {name}")
    if own[name].shape != shape:
        raise sd21_base.another(folder, f"its {name} has the shape {tuple(own[name].shape)}, not {tuple(shape)}")


def _read(file: Path) -> dict[str, Any]:
    content = unpickled(file)
    if not isinstance(content, dict) or any(part not in content for part in PARTS):
        raise UserError(f"{file} does not hold OSEDiff's adapters ({', '.join(PARTS)}).", "Put osediff.pkl in its place.")
    return content
