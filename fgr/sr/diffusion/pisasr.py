"""PiSA-SR (arXiv 2412.03017): low-rank changes of SD 2.1 base for pixels and for meaning, one step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from fgr.sr.diffusion.files import BASE, folder_of
from fgr.sr.diffusion.latent_tiles import centred
from fgr.sr.diffusion.osediff import OSEDiff, read_adapters, with_adapters
from fgr.sr.diffusion.samplers import Earlier, NoiseSchedule, Sampler, Transition, alphas_cumprod

TIME = 1
PARTS = ("state_dict_unet", "lora_rank_unet_pix", "lora_rank_unet_sem")


class PiSASR(OSEDiff):
    """One call of the UNet, for what the input's latent has that the image's has not.

    With other weights than 1 and 1 the changes count more or less, at the cost of a second UNet and its call.
    """

    defaults: Mapping[str, Any] = {
        "prompt": "", "lambda_pix": 1.0, "lambda_sem": 1.0, "steps": 1, "color_fix": "adain", "latent_tile": 96,
        "latent_overlap": 32, "encoder_tile": 1024, "decoder_tile": 224, "base": None,
    }  # fmt: skip
    name = "PiSA-SR"
    weigh = staticmethod(centred)

    def step(self) -> Sampler:
        """The only step."""
        return ResidualStep()

    def _tuned(self, base: Mapping[str, Callable[[], Any]], found: Mapping[str, Path]) -> dict[str, Any]:
        """UNet and autoencoder; the UNet with the change for pixels alone where it counts by itself."""
        folder, file = folder_of(found, BASE), found["pisa_sr.pkl"]
        content = read_adapters(file, PARTS, self.name)
        tensors = content["state_dict_unet"]
        semantic = {name: tensor for name, tensor in tensors.items() if "_sem." in name}
        for_pixels = {name: tensor for name, tensor in tensors.items() if name not in semantic}

        def opened() -> Any:
            return with_adapters(base["unet"](), for_pixels, content["lora_rank_unet_pix"], folder, file)

        networks = {
            "unet": with_adapters(opened(), semantic, content["lora_rank_unet_sem"], folder, file),
            "vae": base["vae"](),
        }
        return networks if self.settings["lambda_pix"] == self.settings["lambda_sem"] else networks | {"pixel unet": opened()}

    def _call(self, latent: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """λ_sem times the whole, and the rest of λ_pix times what the change for pixels gives alone."""
        pixel, semantic = self.settings["lambda_pix"], self.settings["lambda_sem"]
        output = super()._call(latent, times, text)
        if pixel == semantic:
            return output if semantic == 1 else semantic * output
        alone = self.networks["pixel unet"](latent, times, encoder_hidden_states=text, return_dict=False)[0]
        return semantic * output + (pixel - semantic) * alone


class ResidualStep(NoiseSchedule):
    """A step without noise: the network's output is what is too much in the latents."""

    def __init__(self) -> None:
        super().__init__(torch.from_numpy(alphas_cumprod()), "epsilon")
        self.times = [TIME]

    def step(
        self, latents: torch.Tensor, prediction: torch.Tensor, index: int, eta: float | None = None, earlier: Earlier = ()
    ) -> Transition:
        """See `Sampler`; there is nothing to draw."""
        clean = latents - prediction
        return Transition(clean, clean, 0.0)
