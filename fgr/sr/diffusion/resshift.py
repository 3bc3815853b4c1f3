"""ResShift (arXiv 2307.12348): from the enlarged input's latent to the image's in few steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.latent_tiles import Chop, even
from fgr.sr.diffusion.residual_shift import OneShiftSampler, ResidualShiftSampler
from fgr.sr.diffusion.stepwise import SCALE, Start, draw
from fgr.sr.diffusion.swin import NOMINAL, swin_unet
from fgr.tensors import read_tensors

PREFIXES = ("module.", "_orig_mod.")  # left by what trained and compiled


class ResShift:
    """Fifteen steps; fewer are evenly chosen of them."""

    length, least = 15, 0.04
    defaults: Mapping[str, Any] = {"steps": 15, "chop": 512, "chop_overlap": 64}
    multiple = smallest_tile = NOMINAL
    text = None

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        main, autoencoder = found.values()
        self.settings = settings
        self.chop = Chop.of(settings, even, clamped=True)
        if settings["steps"] > self.length:
            raise UserError(
                f"This ResShift model has {self.length} steps, but steps={settings['steps']} was requested.",
                f"Set steps to {self.length} or less.",
            )
        self.sampler = ResidualShiftSampler(self.length, self.least, settings["steps"])
        state = _tensors(main)
        with loading.expecting(main, "ResShift's UNet for ×4"):
            module = swin_unet(state)
        self._unet = loading.load_strictly(module, state, "ResShift's UNet for ×4", main).to(device)
        self._vq = vq(_tensors(autoencoder), autoencoder).to(device)
        self.networks = {"unet": self._unet, "vae": self._vq}
        loading.again_in_float32(self._vq.decoder, "The decoder of ResShift")
        loading.again_in_float32(self._vq.encoder, "The encoder of ResShift")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`."""
        images = images * 2 - 1
        known = self._vq.encode(functional.interpolate(images, scale_factor=SCALE, mode="bicubic")).latents.float()
        return Start(self.sampler.beginning(known, draw(known.shape, sources, known)), {"image": images})

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; the image's latent."""
        return self._unet(self.sampler.scaled(latents, times), times, start.condition["image"]).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vq.decode(latents).sample.float() / 2 + 0.5

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`."""
        return self._vq.encode(images * 2 - 1).latents.float()


class ResShiftFour(ResShift):
    """The four steps of the journal version."""

    length, least = 4, 0.2
    defaults: Mapping[str, Any] = {**ResShift.defaults, "steps": 4}


class SinSR(ResShift):
    """SinSR (arXiv 2311.14760): ResShift's network, distilled to give the image's latent from the noisiest state in one call."""

    defaults: Mapping[str, Any] = {**ResShift.defaults, "steps": 1}

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        loading.expect_one_step(settings["steps"], "SinSR")
        super().__init__(found, settings, device)
        self.sampler = OneShiftSampler(self.length, self.least)


def vq(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """The VQ autoencoder of a checkpoint in the latent diffusion code's names."""
    from diffusers import VQModel
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    what = "ResShift's VQ autoencoder"
    with loading.expecting(file, what):
        book = state["quantize.embedding.weight"]
        channels = tuple(state[f"encoder.down.{i}.block.1.conv2.weight"].shape[0] for i in range(3))
        module: Any = VQModel(
            block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=2, latent_channels=book.shape[1], num_vq_embeddings=book.shape[0], scaling_factor=1.0,
        )  # fmt: skip
        rest = {name: tensor for name, tensor in state.items() if not name.startswith("quantize.")}
        converted = convert_ldm_vae_checkpoint(rest, dict(module.config)) | {"quantize.embedding.weight": book}
    loading.expect_all_taken(state, converted, what, file)
    return loading.load_strictly(module, converted, what, file)


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in read_tensors(file, lazily=True).items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        found[name] = tensor
    return found
