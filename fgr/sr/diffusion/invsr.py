"""InvSR (arXiv 2412.09013): SD-Turbo, begun from noise that a network predicts of the input."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import folder_of
from fgr.sr.diffusion.latent_tiles import Chop
from fgr.sr.diffusion.pixels import COLOR_FIXES
from fgr.sr.diffusion.prompts import Prompts, Reader, embed
from fgr.sr.diffusion.samplers import AncestralSampler, Earlier, Transition
from fgr.sr.diffusion.stepwise import SCALE, Start, draw, drawn_latents, embedded
from fgr.tensors import read_tensors

TURBO, PREDICTOR = "sd-turbo", "noise_predictor_sd_turbo_v5.pth"
TIMES = {1: (200,), 2: (200, 100), 3: (200, 100, 50), 4: (200, 150, 100, 50), 5: (250, 200, 150, 100, 50)}  # counted from 1
GRID = 16  # of low-resolution pixels: a latent's sides are multiples of 8
HEAD, LEAST_WIDTH = 64, 128  # of the predictor: an attention's head, what times are embedded in at least


class InvSR:
    """One to five deterministic steps from the enlarged input's latent under predicted noise."""

    defaults: Mapping[str, Any] = {
        "prompt": "Cinematic, high-contrast, photo-realistic, 8k, ultra HD, meticulous detailing, hyper sharpness, perfect "
        "without deformations",
        "negative_prompt": "Low quality, blurring, jpeg artifacts, deformed, over-smooth, cartoon, noisy,painting, drawing, "
        "sketch, oil painting",
        "guidance": 1.0, "steps": 1, "color_fix": "none", "chop": 128, "chop_overlap": 64,
    }  # fmt: skip
    multiple = 1
    least = 512  # shorter side of the output in pixels that the model is shown at least

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        self.smallest_tile = self.least // SCALE
        self.chop = Chop.of(settings, falling_off, clamped=True)
        if settings["steps"] not in TIMES:
            raise UserError(f"InvSR has 1 to {max(TIMES)} steps, but steps={settings['steps']} was requested.", "Lower it.")
        self.sampler = _Deterministic([time - 1 for time in TIMES[settings["steps"]]][::-1])
        folder = folder_of(found, TURBO)
        parts = loading.base_parts(folder)
        text_encoder = parts["text_encoder"]
        self.text = Prompts(
            settings, lambda: partial(embed, encoder=text_encoder(), reader=Reader(folder / "tokenizer")), device,
            guided=settings["guidance"] > 1,
        )  # fmt: skip
        predictor = noise_predictor(read_tensors(found[PREDICTOR]), found[PREDICTOR])
        networks = {"unet": parts["unet"](), "vae": parts["vae"](), "noise predictor": predictor}
        self.networks = {name: network.to(device) for name, network in networks.items()}
        self._unet, self._vae = self.networks["unet"], self.networks["vae"]
        loading.again_in_float32(self._vae.decoder, "The decoder of InvSR")
        loading.again_in_float32(self._vae.encoder, "The encoder of InvSR")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`; the noise is a draw of what the predictor says of it."""
        padded, place = _padded(images, self.least // SCALE)
        times = torch.full((len(images),), self.sampler.times[0], device=images.device)
        mean, log_variance = self.networks["noise predictor"](padded * 2 - 1, times).float().chunk(2, dim=1)
        noise = mean + (log_variance.clamp(-30, 20) / 2).exp() * draw(mean.shape, sources, mean)
        shown = functional.interpolate(padded, scale_factor=float(SCALE), mode="bicubic") * 2 - 1
        known = drawn_latents(self._vae, shown, sources).float() * self._vae.config.scaling_factor
        latents = self.sampler.noised(known, noise, times)
        return Start(latents, {"images": images, "place": place, **embedded(self.text, images, prompts, latents)})

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        wanted = self._call(latents, times, start.condition["text"])
        guidance = self.settings["guidance"]
        if guidance <= 1:
            return wanted
        return torch.lerp(self._call(latents, times, start.condition["without"]), wanted, guidance)

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        images, (top, left) = start.condition["images"], start.condition["place"]
        height, width = images.shape[2] * SCALE, images.shape[3] * SCALE
        decoded = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float().clamp(-1, 1) / 2 + 0.5
        restored = decoded[:, :, top * SCALE : top * SCALE + height, left * SCALE : left * SCALE + width]
        if self.settings["color_fix"] == "none":
            return restored
        colors = functional.interpolate(images, (height, width), mode="bicubic", antialias=True)
        return COLOR_FIXES[self.settings["color_fix"]](restored, colors)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        shown, _ = _padded(images, self.least, GRID * SCALE)
        return self._vae.encode(shown * 2 - 1).latent_dist.mode().float() * self._vae.config.scaling_factor

    def _call(self, latents: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        words = text.expand(len(latents), -1, -1)
        output: torch.Tensor = self._unet(latents, times, encoder_hidden_states=words, return_dict=False)[0].float()
        return output


class _Deterministic(AncestralSampler):
    """DDIM's steps where nothing else is asked for; for these Euler's, of the published scheduler, are the same."""

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`."""
        return super().step(latents, prediction, index, 0.0 if eta is None else eta, earlier)


class NoisePredictor(torch.nn.Module):
    """An encoder of images that knows the time: (B, 3, h, w) in [−1, 1] and (B,) → (B, 8, h/2, w/2), mean and log-variance."""

    def __init__(self, channels: Sequence[int], layers: Sequence[int], embedded: int) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.unets.unet_2d_blocks import AttnDownBlock2D, UNetMidBlock2D

        super().__init__()
        width = max(LEAST_WIDTH, channels[0])
        shared: dict[str, Any] = {"temb_channels": embedded, "resnet_eps": 1e-6, "attention_head_dim": HEAD}
        halved: list[Any] = [*["conv"] * (len(channels) - 1), None]  # but by the last block
        self.time_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, embedded)
        self.conv_in = torch.nn.Conv2d(3, channels[0], 3, padding=1)
        widths = zip((channels[0], *channels), channels, layers, halved, strict=False)
        self.down_blocks = torch.nn.ModuleList(
            AttnDownBlock2D(before, after, num_layers=number, downsample_padding=0, downsample_type=kind, **shared)
            for before, after, number, kind in widths
        )
        self.mid_block = UNetMidBlock2D(channels[-1], **shared)
        self.conv_norm_out = torch.nn.GroupNorm(32, channels[-1], eps=1e-6)
        self.conv_out = torch.nn.Conv2d(channels[-1], 8, 3, padding=1)

    def forward(self, images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """See the class."""
        known = self.time_embedding(self.time_proj(times).to(images.dtype))
        hidden = self.conv_in(images)
        for block in self.down_blocks:
            hidden, _ = block(hidden, known)
        output: torch.Tensor = self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(hidden, known))))
        return output


def noise_predictor(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """The predictor of a checkpoint, whole. UserError for another file."""
    what = "InvSR's noise predictor"
    own = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    blocks = {name.split(".")[1] for name in own if name.startswith("down_blocks.")}
    with loading.expecting(file, what):
        channels = [own[f"down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in range(len(blocks) or 1)]
        layers = [len({n.split(".")[3] for n in own if n.startswith(f"down_blocks.{i}.resnets.")}) for i in range(len(blocks))]
        module = NoisePredictor(channels, layers, own["time_embedding.linear_1.weight"].shape[0])
    return loading.load_strictly(module, own, what, file)


def falling_off(height: int, width: int) -> torch.Tensor:
    """float32 (height, width), the weights of a piece: Gaussians by OpenCV's rule, of an even side without their first value."""
    sides = []
    for side in (height, width):
        whole = cv2.getGaussianKernel(side + (side % 2 == 0), 0.3 * ((side - 1) * 0.5 - 1) + 0.8)
        sides.append(torch.from_numpy(whole[-side:, 0]))
    return torch.outer(*sides).float()


def _padded(images: torch.Tensor, least: int, grid: int = GRID) -> tuple[torch.Tensor, tuple[int, int]]:
    """Images extended by reflection to `least` on all sides, then to multiples of `grid`; how far down and right they lie."""
    top = left = 0
    while min(images.shape[2:]) < least:
        (above, below), (before, behind) = (_margins(side, least) for side in images.shape[2:])
        images = functional.pad(images, (before, behind, above, below), mode="reflect")
        top, left = top + above, left + before
    down, right = (-side % grid for side in images.shape[2:])
    return functional.pad(images, (0, right, 0, down), mode="reflect"), (top, left)


def _margins(side: int, least: int) -> tuple[int, int]:
    """What goes before and behind a side that is to be `least`, as far as one reflection reaches."""
    before = max(min((least - side) // 2, side - 1), 0)
    return before, max(min(least - side - before, side - 1), 0)
