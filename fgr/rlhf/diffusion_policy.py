"""Policies that are diffusion models: low-rank adaptation of the UNet, beside the frozen start.

Models run through the interface that the upscalers use (`fgr.sr.diffusion.stepwise`), by deterministic steps (DDIM) on their own
noise schedules unless an algorithm asks for stochastic ones.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fgr.errors import UserError
from fgr.images.arrays import as_images
from fgr.progress import remark
from fgr.recipe import rlhf as recipe
from fgr.rlhf.gradient_reach import SIDE, without_part
from fgr.rlhf.policy import Policy
from fgr.sr.diffusion.lora import ATTENTION, LAYERS, PREFIX
from fgr.sr.diffusion.samplers import NoiseSchedule, Transition
from fgr.sr.diffusion.stepwise import SCALE, DiffusionModel, Start, generators, sample


def _one_step(name: str) -> dict[str, str]:
    """What makes no sense of a model that restores the input's latent in one step."""
    return {
        "draft-lv": f"it denoises the finished sample anew, and {name} begins with the input's latent, never with noise",
        "grpo": f"it needs stochastic steps, and {name} has one step, which is not",
        "dpo": f"it compares errors at random times under noise, and {name} is only ever asked at one, of the input's latent",
    }


TUNABLE: dict[str, Mapping[str, str]] = {  # name in the zoo → algorithms that make no sense of it, and why
    "sd-x4-upscaler": {},
    "ldm-sr": {},
    "stablesr": {},
    "stablesr-turbo": {},
    "stablesr-768": {},
    "seesr": {},
    "diffbir": {},
    "diffbir-v2": {},
    "osediff": _one_step("OSEDiff"),
    "pisasr": _one_step("PiSA-SR"),
    "s3diff": _one_step("S3Diff"),
    "invsr": dict.fromkeys(
        ("draft-lv", "grpo", "dpo"), "it draws noise of its own, and InvSR begins with noise that follows from the input"
    ),
}


class DiffusionPolicy(Policy):
    """`policy(low)` is a sample, its noise drawn from the input's own pixels as the upscaler does: the same every time."""

    scale = SCALE

    def __init__(self, name: str, model: DiffusionModel, digest: str, license: str) -> None:
        super().__init__(name, model.networks["unet"], digest, license)
        self.model = model
        assert isinstance(model.sampler, NoiseSchedule)
        self.schedule: NoiseSchedule = model.sampler
        self.times = model.sampler.times  # of the denoising steps
        self.steps = len(self.times)
        self.recompute = False  # predictions in the backward pass instead of keeping what is inside them

    def learn(self, settings: recipe.Policy) -> None:
        """Low-rank changes: of the attention's projections, or of every layer where there is no attention. UserError else."""
        if settings.train != "lora":
            raise UserError(f"Of '{self.name}' only low-rank changes can be tuned.", "Set policy.train=lora.")
        self.recompute = settings.checkpoint_blocks
        layers = [name for name, layer in self.network.named_modules() if isinstance(layer, LAYERS)]
        chosen = [name for name in layers if name.endswith(ATTENTION)] or layers
        self._adapt(chosen, settings.lora_rank, settings.lora_alpha)
        self._scaling = settings.lora_alpha / settings.lora_rank

    def expect_gradients(self) -> None:
        """UserError where a prediction passes no gradient to low-rank changes that have a part in it; `left_out` has no part."""
        low = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(next(self.network.parameters()).device)
        start = self.begin(low, self.sources(low, 0))
        self.left_out = without_part(self.name, self.network, lambda _, latents: self.predict(latents, 0, start), start.latents)

    @torch.no_grad()
    def forward(self, low: torch.Tensor) -> torch.Tensor:
        """The policy's sample."""
        return self.sample(low, self.sources(low, self.model.settings["seed"]))

    def sources(self, low: torch.Tensor, seed: int) -> list[torch.Generator]:
        """A generator an image, from its pixels and `seed`."""
        return generators(as_images(low), seed)

    def sample(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> torch.Tensor:
        """A deterministic sample, with gradients where they are enabled."""
        return self._cut(sample(self.model, self._padded(low), sources, eta=0.0), low)

    @torch.no_grad()
    def begin(self, low: torch.Tensor, sources: Sequence[torch.Generator]) -> Start:
        """The start of sampling."""
        return self.model.begin(self._padded(low), sources)

    def predict(self, latents: torch.Tensor, index: int, start: Start) -> torch.Tensor:
        """The network's output in denoising step `index`."""
        remark(f"denoising step {index + 1} of {self.steps}")
        times = torch.full((len(latents),), self.times[index], device=latents.device)
        return self.predict_at(latents, times, start)

    def predict_at(self, latents: torch.Tensor, times: torch.Tensor, start: Start) -> torch.Tensor:
        """The network's output at training times (B,)."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self.model.predict, latents, times, start, use_reentrant=False)
        return self.model.predict(latents, times, start)

    def step(self, latents: torch.Tensor, index: int, start: Start, eta: float = 0.0) -> Transition:
        """Denoising step `index` from `latents`."""
        return self.transition(latents, self.predict(latents, index, start), index, eta)

    def transition(self, latents: torch.Tensor, output: torch.Tensor, index: int, eta: float = 0.0) -> Transition:
        """What an output of the network makes of `latents` in denoising step `index`; in float32: half precision overflows."""
        return self.model.sampler.step(latents.float(), output.float(), index, eta)

    def image(self, latents: torch.Tensor, low: torch.Tensor, start: Start) -> torch.Tensor:
        """The images of clean latents, at 4 times the size of `low`; never in fp16, which autoencoders overflow."""
        with _wide(latents.device):
            return self._cut(self.model.decode(latents.float(), start), low)

    @torch.no_grad()
    def latents(self, images: torch.Tensor) -> torch.Tensor:
        """The latents of images whose sides are multiples of 32; never in fp16."""
        with _wide(images.device):
            return self.model.encode(images.float())

    @contextlib.contextmanager
    def unguided(self) -> Iterator[None]:
        """Within the block the network predicts without classifier-free guidance, as it was trained."""
        settings = self.model.settings
        if "guidance" in settings:
            self.model.settings = dict(settings) | {"guidance": 1.0}
        try:
            yield
        finally:
            self.model.settings = settings

    def to(self, *args: Any, **kwargs: Any) -> "DiffusionPolicy":
        """As for every module, all networks of the model along."""
        super().to(*args, **kwargs)
        for network in self.model.networks.values():
            network.to(*args, **kwargs)
        return self

    def save(self, path: Path, **about: str) -> None:
        """Write the low-rank changes as a diffusers LoRA file; alpha is folded into the second factor: diffusers assumes none."""
        state = {}
        for name, value in self.learned().items():
            factor = self._scaling if ".lora_B." in name else 1.0
            state[PREFIX + name.replace(".default.", ".")] = (value.detach().cpu() * factor).contiguous()
        self._write(path, state, {"base": self.digest, **about})

    def _padded(self, low: torch.Tensor) -> torch.Tensor:
        """Extended by reflection to the sides that the upscaler extends inputs to."""
        down, right = (-side % self.model.multiple for side in low.shape[-2:])
        return functional.pad(low, (0, right, 0, down), mode="reflect")

    def _cut(self, images: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        height, width = low.shape[-2:]
        return images.clamp(0, 1)[..., : height * self.scale, : width * self.scale]


def _wide(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Within, autocast to fp16 is off; to bfloat16, whose range is that of float32, it stays."""
    kind = device.type
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return torch.autocast(kind, enabled=False) if half else contextlib.nullcontext()
