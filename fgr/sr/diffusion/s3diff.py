"""S3Diff (arXiv 2409.17058): SD-Turbo in one step, changed by how degraded the input is."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.sr.diffusion.files import folder_of
from fgr.sr.diffusion.invsr import TURBO
from fgr.sr.diffusion.latent_tiles import predict_in_tiles, square_tile
from fgr.sr.diffusion.osediff import LORA_ALPHA, TIME, read_adapters
from fgr.sr.diffusion.pixels import COLOR_FIXES
from fgr.sr.diffusion.prompts import Prompts, Reader, embed
from fgr.sr.diffusion.samplers import AncestralSampler
from fgr.sr.diffusion.stepwise import SCALE, Start, drawn_latents, embedded
from fgr.sr.diffusion.vae_tiles import tile_autoencoder
from fgr.tensors import read_tensors

FILE, ESTIMATOR = "s3diff.pkl", "de_net.pth"
GRID = 64  # pixels: sides of what is encoded are multiples of it
PARTS = ("state_dict_unet", "state_dict_vae", "rank_unet", "rank_vae", "w", "state_embeddings")
MLPS = ("de", "block", "fuse")
MIDDLE, LAST = "mid_block", -1  # in a layer's name; the block of layers at the ends
UNET_UP, UNET_MIDDLE, VAE_MIDDLE = 5, 4, -2  # the blocks of the layers after the first half


class S3Diff:
    """One call of the UNet, guided a little, from the enlarged input's latent to the image's."""

    defaults: Mapping[str, Any] = {
        "prompt": "A high-resolution, 8K, ultra-realistic image with sharp focus, vibrant colors, and natural lighting.",
        "negative_prompt": "oil painting, cartoon, blur, dirty, messy, low quality, deformation, low resolution, oversmooth",
        "guidance": 1.07, "steps": 1, "color_fix": "wavelet", "latent_tile": 96, "latent_overlap": 32, "encoder_tile": 1024,
        "decoder_tile": 224,
    }  # fmt: skip
    multiple, chop = 1, None
    smallest_tile = 128

    def __init__(self, found: Mapping[str, Path], settings: Mapping[str, Any], device: torch.device) -> None:
        self.settings = settings
        loading.expect_one_step(settings["steps"], "S3Diff")
        self.sampler = AncestralSampler([TIME])
        folder, file = folder_of(found, TURBO), found[FILE]
        content, parts = read_adapters(file, PARTS, "S3Diff"), loading.base_parts(folder)
        self._changes = {part: Changes(content, part, file) for part in ("unet", "vae")}
        networks = {part: changes.attached(parts[part]()) for part, changes in self._changes.items()}
        networks["estimator"] = estimator(read_tensors(found[ESTIMATOR]), found[ESTIMATOR])
        self.networks = {name: network.to(device) for name, network in networks.items()}
        self._unet, self._vae = self.networks["unet"], self.networks["vae"]
        text_encoder = parts["text_encoder"]
        self.text = Prompts(
            settings, lambda: partial(embed, encoder=text_encoder(), reader=Reader(folder / "tokenizer")), device,
            guided=settings["guidance"] != 1,
        )  # fmt: skip
        tile_autoencoder(self._vae, settings["encoder_tile"], settings["decoder_tile"])
        loading.again_in_float32(self._vae.decoder, "The decoder of S3Diff")
        loading.again_in_float32(self._vae.encoder, "The encoder of S3Diff")

    def begin(self, images: torch.Tensor, sources: Sequence[torch.Generator], prompts: Sequence[str] | None = None) -> Start:
        """See `DiffusionModel`; the latents are the input's own."""
        degradation = self.networks["estimator"](images).float()
        shown = functional.interpolate(images, scale_factor=float(SCALE), mode="bilinear", align_corners=False)
        self._changes["vae"].follow(degradation)
        latents = drawn_latents(self._vae, _padded(shown * 2 - 1), sources).float() * self._vae.config.scaling_factor
        return Start(latents, {
            "degradation": degradation, "shown": shown, **embedded(self.text, images, prompts, latents),
        })  # fmt: skip

    def predict(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`."""
        condition, guidance = start.condition, self.settings["guidance"]
        self._changes["unet"].follow(condition["degradation"])

        def predict(latent: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            wanted = self._call(latent, times, condition["text"])
            return wanted if guidance == 1 else torch.lerp(self._call(latent, times, condition["without"]), wanted, guidance)

        tile, overlap = square_tile(latents, self.settings["latent_tile"], self.settings["latent_overlap"])
        return predict_in_tiles(predict, latents, latents, tile, overlap).float()

    def decode(self, latents: torch.Tensor, start: Start) -> torch.Tensor:
        """See `DiffusionModel`; with the colours of the inputs."""
        shown = start.condition["shown"]
        decoded = self._vae.decode(latents / self._vae.config.scaling_factor).sample.float().clamp(-1, 1) / 2 + 0.5
        return COLOR_FIXES[self.settings["color_fix"]](decoded[:, :, : shown.shape[2], : shown.shape[3]], shown)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `DiffusionModel`; as degraded as the images are when they are made small."""
        small = functional.interpolate(images, scale_factor=1 / SCALE, mode="bicubic", antialias=True)
        self._changes["vae"].follow(self.networks["estimator"](small).float())
        return self._vae.encode(_padded(images * 2 - 1)).latent_dist.mode().float() * self._vae.config.scaling_factor

    def _call(self, latent: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        words = text.expand(len(latent), -1, -1)
        output: torch.Tensor = self._unet(latent, times, encoder_hidden_states=words, return_dict=False)[0]
        return output


class Changes:
    """The low-rank changes of a network's layers, with a matrix between their factors for each image and block of layers."""

    matrices: torch.Tensor  # (B, blocks, rank, rank)

    def __init__(self, content: Mapping[str, Any], part: str, file: Path) -> None:
        self._tensors, self._rank, self._part, self._file = content[f"state_dict_{part}"], content[f"rank_{part}"], part, file
        with loading.expecting(file, "S3Diff's changes"):
            states = {f"{kind}_mlp": content[f"state_dict_{part}_{kind}_mlp"] for kind in MLPS}
            states["embeddings"] = content["state_embeddings"][f"state_dict_{part}_block"]
        self._frequencies = content["w"].detach().float()
        self.guide = _guide(states, self._rank, file)

    def attached(self, network: Any) -> Any:
        """The network with the changes, and with whole layers in place of its own. UserError for layers that it lacks."""
        layers, own, left = dict(network.named_modules()), network.state_dict(), set(self._tensors)
        for name in sorted(one for one in self._tensors if ".lora_A." in one):
            layer, adapter = name.split(".lora_A.")
            second = f"{layer}.lora_B.{adapter}"
            below, above, weight = self._tensors[name], self._tensors.get(second), own.get(f"{layer}.weight")
            if weight is None or above is None or (above.shape[0], *below.shape[1:]) != tuple(weight.shape):
                raise self._misfit(name)
            layers[layer].register_forward_hook(self._change(below, above, self._block(layer)))
            left -= {name, second}
        for name in sorted(left):
            if name not in own or own[name].shape != self._tensors[name].shape:
                raise self._misfit(name)
            own[name].copy_(self._tensors[name])
        return network

    def _misfit(self, name: str) -> UserError:
        what = f"{name} has no layer of that size there, or no second factor"
        return UserError(f"{self._file} does not fit SD-Turbo: {what}.", "Fetch both again.")

    def _change(self, below: torch.Tensor, above: torch.Tensor, block: int) -> "_Change":
        return _Change(below, above, LORA_ALPHA / self._rank, lambda: self.matrices[:, block])

    def follow(self, degradation: torch.Tensor) -> None:
        """From now on the changes are those for images of this degradation (B, 2): blur and noise in [0, 1]."""
        self.guide.to(degradation.device)
        angles = degradation[..., None] * self._frequencies.to(degradation.device) * (2 * math.pi)
        self.matrices = self.guide(torch.cat([angles.sin(), angles.cos()], 2).flatten(1))

    def _block(self, layer: str) -> int:
        """Which of the matrices is a layer's."""
        path = layer.split(".")
        half, *rest = path if self._part == "unet" else path[1:]
        if half == MIDDLE:
            return UNET_MIDDLE if self._part == "unet" else VAE_MIDDLE
        if half in ("down_blocks", "up_blocks"):
            return int(rest[0]) + (UNET_UP if half == "up_blocks" else 0)
        return LAST


class _Change:
    """A forward hook of a layer: adds its low-rank change. The factors go to the device of what comes."""

    def __init__(self, below: torch.Tensor, above: torch.Tensor, scale: float, matrix: Callable[[], torch.Tensor]) -> None:
        self._below, self._above, self._scale, self._matrix = below, above, scale, matrix

    def __call__(self, layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        self._below, self._above = self._below.to(x.device), self._above.to(x.device)
        below, above, matrix = self._below.to(x.dtype), self._above.to(x.dtype), self._matrix().to(x.dtype)
        if below.ndim == 4:
            low = torch.einsum("bkhw,bkr->brhw", functional.conv2d(x, below, None, layer.stride, layer.padding), matrix)
            return output + functional.conv2d(low.to(x.dtype), above) * self._scale
        low = torch.einsum("blk,bkr->blr", functional.linear(x, below), matrix)
        return output + functional.linear(low.to(x.dtype), above) * self._scale


class Guide(nn.Module):
    """Degradation, as sines and cosines (B, 256), and an embedding of each block → matrices (B, blocks, rank, rank)."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.de_mlp, self.block_mlp, self.fuse_mlp = (_linear(state[f"{kind}_mlp.weight"]) for kind in MLPS)
        blocks, width = state["embeddings.weight"].shape
        self.embeddings = nn.Embedding(blocks, width)

    def forward(self, angles: torch.Tensor) -> torch.Tensor:
        """See the class."""
        image, blocks = self.de_mlp(angles).relu(), self.block_mlp(self.embeddings.weight).relu()
        size = len(image), len(blocks), -1
        both = torch.cat([image[:, None].expand(*size), blocks[None].expand(*size)], 2)
        found: torch.Tensor = self.fuse_mlp(both)
        return found.unflatten(2, (math.isqrt(found.shape[2]), -1))


def _guide(states: Mapping[str, Mapping[str, torch.Tensor]], rank: int, file: Path) -> Any:
    state = {f"{part}.{name.removeprefix('0.')}": tensor for part, own in states.items() for name, tensor in own.items()}
    with loading.expecting(file, "S3Diff's changes"):
        if len(state["fuse_mlp.weight"]) != rank**2:
            raise UserError(f"{file} holds changes of rank {rank} and matrices of another size.", "Fetch it again.")
        module = Guide(state)
    return loading.load_strictly(module, state, "S3Diff's changes", file)


def _linear(weight: torch.Tensor) -> nn.Linear:
    """A layer of that weight's size."""
    outputs, inputs = weight.shape
    return nn.Linear(inputs, outputs)


class Estimator(nn.Module):
    """How blurred and how noisy low-resolution images (B, 3, h, w) in [0, 1] are: (B, 2) in [0, 1]."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        branches = range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("conv_first.")))
        self.conv_first = nn.ModuleList(nn.Conv2d(3, len(state[f"conv_first.{i}.bias"]), 3, padding=1) for i in branches)
        self.body = nn.ModuleList(nn.Sequential(*_blocks(state, f"body.{i}.")) for i in branches)
        self.fc_degree = nn.ModuleList(
            nn.Sequential(
                _linear(state[f"fc_degree.{i}.0.weight"]), nn.ReLU(), _linear(state[f"fc_degree.{i}.2.weight"]), nn.Sigmoid()
            )
            for i in branches
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        branches = zip(self.conv_first, self.body, self.fc_degree, strict=True)
        return torch.cat([degree(body(first(images)).mean((2, 3))) for first, body, degree in branches], 1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = x + self.conv2(self.conv1(x).relu())
        return output


def _blocks(state: Mapping[str, torch.Tensor], prefix: str) -> list[nn.Module]:
    """Residual blocks, and a convolution that halves the sides where a block has a weight of its own."""
    numbers = sorted({int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)})
    made: list[nn.Module] = []
    for number in numbers:
        weight = state.get(f"{prefix}{number}.weight")
        if weight is None:
            made.append(_Residual(len(state[f"{prefix}{number}.conv1.bias"])))
        else:
            made.append(nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride=2, padding=1))
    return made


def estimator(state: Mapping[str, torch.Tensor], file: Path) -> Any:
    """The degradation estimator of MM-RealSR. UserError for another file."""
    what = "S3Diff's degradation estimator"
    with loading.expecting(file, what):
        if "conv_first.0.bias" not in state:
            raise KeyError("conv_first.0.bias")
        module = Estimator(state)
    return loading.load_strictly(module, dict(state), what, file)


def _padded(images: torch.Tensor) -> torch.Tensor:
    """Extended by reflection at the right and the bottom to multiples of 64."""
    down, right = (-side % GRID for side in images.shape[2:])
    return functional.pad(images.clamp(-1, 1), (0, right, 0, down), mode="reflect")
