"""DiffBIR 2.1 (arXiv 2308.15070): a network takes the degradation away, Stable Diffusion under a ControlNet adds the detail."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import canvas, color, enlarge, files, half, ldm, noise, sd21_base, text
from fgr.sr.diffusion.ddpm import Chain, alphas_cumprod, spaced
from fgr.sr.diffusion.files import load_strictly
from fgr.tensors import read_tensors

SCALE, PIXELS, GRID = 4, 8, 64
CLEANER, CONTROL, STABLE = "realesrgan_s4_swinir_100k.pth", "DiffBIR_v2.1.pt", "sd2.1-base-zsnr-laionaes5.ckpt"


class DiffBIR:
    """Ancestral sampling of the velocity, guided away from the negative prompt; colours from the cleaned image."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "low quality, blurry, low-resolution, noisy, unsharp, weird textures",
        "guidance": 4.0, "steps": 50, "color_fix": "wavelet", "latent_tile": 64, "latent_overlap": 32, "base": None,
    }  # fmt: skip
    multiple = 1
    least = 512  # shorter side in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        self.knobs = knobs
        self.smallest_tile = self.least // SCALE
        if knobs["latent_tile"] % PIXELS or knobs["latent_overlap"] >= knobs["latent_tile"]:
            raise UserError(
                f"Latent tiles of {knobs['latent_tile']} that share {knobs['latent_overlap']} cannot be.",
                f"Set latent_tile to a multiple of {PIXELS}, and latent_overlap lower.",
            )
        self._chain = Chain(spaced(knobs["steps"]), zero_terminal(alphas_cumprod()))
        self._cleaner = _cleaner(found[CLEANER]).to(device)
        state = read_tensors(found[STABLE], lazily=True)
        encoder = ldm.text_encoder(state, found[STABLE])
        self._text = text.embed(
            [knobs["negative_prompt"], knobs["prompt"]], encoder, files.folder_of(found, sd21_base.FOLDER) / "tokenizer"
        ).to(device)
        self._unet = ldm.unet(state, found[STABLE]).to(device)
        self._vae = ldm.vae(state, found[STABLE]).to(device)
        self._control = control_net(read_tensors(found[CONTROL], lazily=True), found[CONTROL]).to(device)
        self.networks = {"unet": self._unet, "control": self._control, "vae": self._vae, "cleaner": self._cleaner}
        half.again_in_float32(self._vae.decoder, "The decoder of DiffBIR")
        half.again_in_float32(self._vae.encoder, "The encoder of DiffBIR")
        half.again_in_float32(self._cleaner, "The first stage of DiffBIR")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        height, width = images.shape[2] * SCALE, images.shape[3] * SCALE
        clean = self._cleaned(enlarge.bicubic(images, height, width))
        restored = self._restored(clean, sources)
        restored = color.FIXES[self.knobs["color_fix"]](restored / 2 + 0.5, clean)
        if restored.shape[2:] == (height, width):
            return restored
        return functional.interpolate(restored, (height, width), mode="bicubic", antialias=True)

    def _cleaned(self, images: torch.Tensor) -> torch.Tensor:
        """What the first stage makes of the enlarged input, itself enlarged further if it is small: float32, about [0, 1]."""
        height, width = images.shape[2:]
        if min(height, width) < self.least:
            factor = self.least / min(height, width)
            size = (self.least, int(width * factor)) if height <= width else (int(height * factor), self.least)
            images = functional.interpolate(images, size, mode="bicubic", antialias=True)
        height, width = images.shape[2:]
        return self._cleaner(_padded(images))[:, :, :height, :width].float()

    def _restored(self, clean: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] → the same size, nominally in [−1, 1]."""
        height, width = clean.shape[2:]
        condition = self._vae.encode(_padded(clean) * 2 - 1).latent_dist.mode().float() * ldm.LATENT_SCALE
        now = noise.draw(condition.shape, sources, condition)
        tile, overlap = self.knobs["latent_tile"], self.knobs["latent_overlap"]
        for i in reversed(range(len(self._chain.times))):
            times = torch.full((len(now),), self._chain.times[i], device=now.device)
            velocity = canvas.merged(partial(self._guided, times), now, condition, tile, overlap)
            start = self._chain.start(now, i, velocity.float(), "v")
            now = self._chain.step(now, i, start, noise.draw(now.shape, sources, now) if i else None)
        return self._vae.decode(now / ldm.LATENT_SCALE).sample[:, :, :height, :width].float()

    def _guided(self, times: torch.Tensor, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        guidance = self.knobs["guidance"]
        wanted = self._call(latent, condition, times, 1)
        return wanted if guidance == 1 else torch.lerp(self._call(latent, condition, times, 0), wanted, guidance)

    def _call(self, latent: torch.Tensor, condition: torch.Tensor, times: torch.Tensor, prompt: int) -> torch.Tensor:
        shown = self._text[prompt].expand(len(latent), -1, -1)
        down, middle = self._control(
            torch.cat([latent, condition], 1), times, encoder_hidden_states=shown, controlnet_cond=condition, return_dict=False
        )
        return self._unet(
            latent, times, encoder_hidden_states=shown, down_block_additional_residuals=down,
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip


def zero_terminal(cumulative: np.ndarray) -> np.ndarray:
    """A noise schedule moved so that nothing of the signal is left at its end (arXiv 2305.08891): ᾱ of the same length."""
    roots = np.sqrt(cumulative)
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


class _Nothing(torch.nn.Module):
    def forward(self, condition: torch.Tensor) -> float:
        return 0.0


def control_net(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """IRControlNet: a ControlNet that sees the condition's latent beside the noisy one, not through an encoder of hints."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    what = "DiffBIR's ControlNet"
    with ldm.expecting(file, what):
        channels = tuple(state[f"input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0] for i in range(4))
        module: Any = ControlNetModel(
            in_channels=state["input_blocks.0.0.weight"].shape[1], block_out_channels=channels,
            attention_head_dim=tuple(max(1, one // ldm.HEAD) for one in channels), use_linear_projection=True,
            cross_attention_dim=state["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        )  # fmt: skip
        module.controlnet_cond_embedding = _Nothing()
        converted = convert_controlnet_checkpoint(state, dict(module.config))
    ldm.expect_all_taken(state, converted, what, file)
    return load_strictly(module, converted, what, file)


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
