"""Diffusion policies: low-rank changes of the UNet learn; switched off, they leave the frozen start."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fgr import atomic
from fgr.errors import UserError, missing_extra
from fgr.images.arrays import as_images
from fgr.recipe.sampling import Sampling
from fgr.rlhf.denoisers import DENOISERS, Begun, Denoiser
from fgr.rlhf.policy import Weights
from fgr.rlhf.sampling import Transition, transition
from fgr.sr.diffusion import MODELS, files, noise, open_restorer
from fgr.sr.diffusion.lora import ATTENTION, LAYERS, PREFIX


class DiffusionPolicy(nn.Module):
    """`policy(low)` is a sample, its noise drawn from the input's own pixels as the upscaler does: the same every time.

    `low` is float (B, 3, h, w) in [0, 1]; samples are (B, 3, 4h, 4w) in [0, 1].
    """

    scale = 4

    def __init__(self, name: str, denoiser: Denoiser, steps: int, digest: str, license: str, seed: int = 0) -> None:
        super().__init__()
        self.name, self.digest, self.license, self.steps, self._seed = name, digest, license, steps, seed
        self.denoiser = denoiser
        self.network: nn.Module = denoiser.unet.eval().requires_grad_(False)
        self.recompute = False
        self._adapted: Any = None
        denoiser.scheduler.set_timesteps(steps)
        self.times: torch.Tensor = denoiser.scheduler.timesteps

    def learn_lora(self, rank: int, alpha: int) -> None:
        """Let low-rank changes learn: of the attention's projections, or of every layer where there is no attention."""
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise missing_extra("peft", "diffusion", "Tuning a diffusion model") from None
        linear = [name for name, layer in self.network.named_modules() if isinstance(layer, LAYERS)]
        chosen = [name for name in linear if name.endswith(ATTENTION)] or linear
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen)
        self._adapted = get_peft_model(self.network, config)  # type: ignore[arg-type]
        self._scaling = alpha / rank

    @torch.no_grad()
    def forward(self, low: torch.Tensor) -> torch.Tensor:
        """The policy's sample."""
        return self.sample(low, self.sources(low, self._seed))

    @torch.no_grad()
    def start(self, low: torch.Tensor) -> torch.Tensor:
        """The untuned model's sample, of the same noise."""
        with self.untuned():
            return self.forward(low)

    @contextlib.contextmanager
    def untuned(self) -> Iterator[None]:
        """Within the block the low-rank changes are switched off."""
        if self._adapted is None:
            yield
            return
        with self._adapted.disable_adapter():
            yield

    def sources(self, low: torch.Tensor, seed: int) -> list[torch.Generator]:
        """A generator an image, from its pixels and `seed`."""
        return noise.generators(as_images(low), seed)

    def sample(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """A deterministic sample, with gradients where they are enabled."""
        begun = self.begin(low, sources)
        latents = begun.latents
        for index in range(self.steps):
            latents = self.step(latents, index, begun).mean
        return self.image(latents, low, begun)

    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Begun:
        """The start of sampling; the input is extended by reflection to the sides that the upscaler extends it to."""
        down, right = (-side % self.denoiser.multiple for side in low.shape[-2:])
        with torch.no_grad():
            return self.denoiser.begin(functional.pad(low, (0, right, 0, down), mode="reflect"), sources)

    def predict(self, latents: torch.Tensor, index: int, begun: Begun) -> torch.Tensor:
        """The network's output in denoising step `index`."""
        time = self.times[index].to(latents.device)
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.denoiser.predict, latents, time, begun.condition, use_reentrant=False)
        return self.denoiser.predict(latents, time, begun.condition)

    def step(self, latents: torch.Tensor, index: int, begun: Begun, eta: float = 0.0) -> Transition:
        """Denoising step `index` from `latents`."""
        return self.transition(latents, self.predict(latents, index, begun), index, eta)

    def transition(self, latents: torch.Tensor, output: torch.Tensor, index: int, eta: float = 0.0) -> Transition:
        """What an output of the network makes of `latents` in denoising step `index`."""
        scheduler, time = self.denoiser.scheduler, int(self.times[index])
        before = time - scheduler.config.num_train_timesteps // self.steps
        alpha_before = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        clip = scheduler.config.clip_sample_range if scheduler.config.clip_sample else None
        alpha = float(scheduler.alphas_cumprod[time])
        return transition(latents, output, alpha, float(alpha_before), scheduler.config.prediction_type, eta, clip)

    def image(self, latents: torch.Tensor, low: torch.Tensor, begun: Begun) -> torch.Tensor:
        """The images of clean latents, at 4 times the size of `low`."""
        height, width = low.shape[-2:]
        return self.denoiser.decode(latents, begun.condition).clamp(0, 1)[..., : height * self.scale, : width * self.scale]

    def latents(self, images: torch.Tensor) -> torch.Tensor:
        """The latents of images whose sides are multiples of 32."""
        with torch.no_grad():
            return self.denoiser.encode(images)

    def to(self, *args: Any, **kwargs: Any) -> "DiffusionPolicy":
        """As for every module, all parts of the pipeline along."""
        super().to(*args, **kwargs)
        self.denoiser.to(*args, **kwargs)
        return self

    def train(self, mode: bool = True) -> "DiffusionPolicy":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def learned(self) -> Weights:
        """The tensors that learn, by name, by reference."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    @contextlib.contextmanager
    def holding(self, values: Weights) -> Iterator[None]:
        """Within the block the learning tensors have these values; their own come back afterwards, exactly."""
        kept = {name: value.detach().clone() for name, value in self.learned().items()}
        self.put(values)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, values: Weights) -> None:
        """Set the learning tensors."""
        for name, value in self.learned().items():
            value.copy_(values[name])

    def save(self, path: Path, **about: str) -> None:
        """Write the low-rank changes as a diffusers LoRA file; alpha is folded into the second factor: diffusers assumes none."""
        from safetensors.torch import save

        state = {}
        for name, value in self.learned().items():
            factor = self._scaling if ".lora_B." in name else 1.0
            state[PREFIX + name.replace(".default.", ".")] = (value.detach().cpu() * factor).contiguous()
        metadata = {"format": "pt", "tuned_from": self.name, "base": self.digest, "license": self.license, **about}
        atomic.write_bytes(path, save(state, metadata))


def open_diffusion_policy(name: str, sampling: Sampling) -> DiffusionPolicy:
    """The diffusion model `name` with nothing learning yet; `sampling` is the recipe's.

    UserError: a model that cannot be tuned yet, weights absent or damaged.
    """
    if name not in DENOISERS:
        raise UserError(
            f"'{name}' cannot be tuned: its sampling has not been taken apart into steps that gradients go through.",
            f"Diffusion models that can be tuned: {', '.join(DENOISERS)}.",
        )
    assert name in MODELS
    restorer = open_restorer(name, sampling, torch.device("cpu"))
    knobs = restorer.knobs
    located = files.locate(name, knobs.get("base"))
    return DiffusionPolicy(name, DENOISERS[name](restorer), knobs["steps"], located.digest, located.license, knobs["seed"])
