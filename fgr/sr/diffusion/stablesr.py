"""StableSR (arXiv 2305.07015) from its checkpoints: Stable Diffusion 2.1 with a structure encoder and a wrapped decoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import canvas, color, half, ldm, noise, text
from fgr.sr.diffusion.cfw import Wrapping
from fgr.sr.diffusion.ddpm import Chain, spaced
from fgr.sr.diffusion.files import load_strictly
from fgr.sr.diffusion.structure import Structure, structure_encoder
from fgr.tensors import read_tensors

SCALE = 4
PIXELS = 8  # of the image to one of the latent
STRUCTURE, FUSION, LOSS = "structcond_stage_model.", "decoder.fusion_layer_", "loss."
GRID = 32  # pixels: sides of what is encoded are multiples of it


class StableSR:
    """Up to one latent tile (512 pixels) sampling starts from noise, above from the noised input, as in the published scripts."""

    defaults: Mapping[str, Any] = {
        "prompt": "", "negative_prompt": "", "guidance": 1.0, "steps": 200, "cfw": 0.5, "color_fix": "adain",
        "latent_tile": 64, "latent_overlap": 32,
    }  # fmt: skip
    multiple = 1

    def __init__(self, found: Mapping[str, Path], knobs: Mapping[str, Any], device: torch.device) -> None:
        main, wrapped = found.values()
        self.knobs = knobs
        self.smallest_tile = knobs["latent_tile"] * PIXELS // SCALE
        if knobs["latent_overlap"] >= knobs["latent_tile"]:
            raise UserError(
                f"Latent tiles of {knobs['latent_tile']} cannot share {knobs['latent_overlap']}.", "Lower latent_overlap."
            )
        self._chain = Chain(spaced(knobs["steps"]))
        state = read_tensors(main, lazily=True)
        _expect_slot(state, main, STRUCTURE, "StableSR's main checkpoint (stablesr_*.ckpt)")
        self._text = text.embed([knobs["negative_prompt"], knobs["prompt"]], ldm.text_encoder(state, main)).to(device)
        self._structure = Structure()
        shown = {key.removeprefix(STRUCTURE): value for key, value in state.items() if key.startswith(STRUCTURE)}
        encoder = structure_encoder(shown)
        self._encoder = load_strictly(encoder, shown, "StableSR's structure encoder", main).to(device)
        width = shown["fea_tran.0.out_layers.3.weight"].shape[0]
        self._unet = ldm.unet(state, main, lambda unet: self._structure.attach(unet, width)).to(device)
        del state, shown
        self._load_decoder(wrapped, knobs["cfw"], device)

    def _load_decoder(self, file: Path, weight: float, device: torch.device) -> None:
        state = {key: value for key, value in read_tensors(file, lazily=True).items() if not key.startswith(LOSS)}
        _expect_slot(state, file, FUSION, "StableSR's autoencoder with CFW (vqgan_cfw_*.ckpt)")
        fusion = {key.removeprefix("decoder."): value for key, value in state.items() if key.startswith(FUSION)}
        rest = {key: value for key, value in state.items() if not key.startswith(FUSION)}
        self._vae = ldm.vae(rest, file, prefix="").to(device)
        wrapping = Wrapping(self._vae, weight)
        self._wrapping = load_strictly(wrapping, fusion, "StableSR's CFW blocks", file).to(device)
        self.networks = {"unet": self._unet, "structure encoder": self._encoder, "vae": self._vae}
        half.again_in_float32(self._vae.decoder, "The decoder of StableSR")
        half.again_in_float32(self._vae.encoder, "The encoder of StableSR")

    def __call__(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        height, width = images.shape[2] * SCALE, images.shape[3] * SCALE
        enlarged = self._enlarged(images * 2 - 1)
        inner = enlarged.shape[2:]
        down, right = ((GRID - side % GRID if any(one % GRID for one in inner) else 0) for side in inner)
        padded = functional.pad(enlarged, (0, right, 0, down), mode="reflect")
        restored = self._restored(padded, sources)[:, :, : inner[0], : inner[1]]
        if tuple(inner) != (height, width):  # it was enlarged to the size that the model knows
            restored = functional.interpolate(restored.clamp(-1, 1), (height, width), mode="bicubic")
        return restored / 2 + 0.5

    def _enlarged(self, images: torch.Tensor) -> torch.Tensor:
        """To the output's size, or larger: until the shorter side fills a latent tile."""
        height, width = images.shape[2:]
        factor = max(self.knobs["latent_tile"] * PIXELS / min(height, width), SCALE)
        size = int(height * factor), int(width * factor)
        return functional.interpolate(images, size, mode="bicubic").clamp(-1, 1)

    def _restored(self, images: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """(B, 3, H, W) in [−1, 1], sides multiples of 32 → the same size, nominally the same range."""
        posterior = self._vae.encode(images).latent_dist
        known = (posterior.mean + posterior.std * noise.draw(posterior.mean.shape, sources, posterior.mean)).float()
        known = known * ldm.LATENT_SCALE
        beginning = noise.draw(known.shape, sources, known)
        tile = self.knobs["latent_tile"]
        if max(known.shape[2:]) <= tile:
            now = noise.draw(known.shape, sources, known)
        else:
            now = self._chain.noised(known, 999, beginning)
        for i in reversed(range(len(self._chain.times))):
            start = self._chain.start(now, i, self._predicted(now, known, self._chain.times[i]).float())
            now = self._chain.step(now, i, start, noise.draw(now.shape, sources, now) if i else None)
        decoded = self._vae.decode(now / ldm.LATENT_SCALE).sample
        self._wrapping.forget()
        return color.FIXES[self.knobs["color_fix"]](decoded.float(), images)

    def _predicted(self, now: torch.Tensor, known: torch.Tensor, time: int) -> torch.Tensor:
        guidance = self.knobs["guidance"]
        times = torch.full((len(now),), time, device=now.device)

        def predict(latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            self._structure.features = self._encoder(condition, times)
            wanted = self._call(latent, times, 1)
            return wanted if guidance == 1 else torch.lerp(self._call(latent, times, 0), wanted, guidance)

        return canvas.merged(predict, now, known, self.knobs["latent_tile"], self.knobs["latent_overlap"])

    def _call(self, latent: torch.Tensor, times: torch.Tensor, prompt: int) -> torch.Tensor:
        shown = self._text[prompt].expand(len(latent), -1, -1)
        return self._unet(latent, times, encoder_hidden_states=shown, return_dict=False)[0]


class StableSRTurbo(StableSR):
    """The same networks, tuned for few steps."""

    defaults: Mapping[str, Any] = {**StableSR.defaults, "steps": 4, "color_fix": "wavelet"}


def _expect_slot(state: Mapping[str, torch.Tensor], file: Path, prefix: str, what: str) -> None:
    if not any(key.startswith(prefix) for key in state):
        raise UserError(f"{file} is not {what}: it holds no tensor {prefix}….", "Put the right file in its place.")
