"""SR networks that spandrel builds: run whole or in tiles, smaller ones when memory runs out."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from fgr.devices import PRECISIONS, choose_device, numerics, settled_precision
from fgr.errors import UserError
from fgr.images import tiles
from fgr.metrics.fidelity import psnr
from fgr.sr import winograd
from fgr.sr.jobs import Job, NonFiniteOutput
from fgr.sr.memory import MemoryFit, pixels_that_fit
from fgr.sr.weights import Found, Loaded
from fgr.tensors import first_keys

SMALLEST_TILE = 32
COMPILER = "inductor"
STANDS = 40.0  # dB between the outputs in bf16 and fp32 from which bf16 is good enough: below what an eye sees


class Network:
    """An SR network on a device. On the CPU images run one at a time, so that their bytes do not depend on their neighbours."""

    external = False

    def __init__(
        self, name: str, loaded: Loaded, scale: int | None, device: str, tile: int, overlap: int, precision: str, batch: int,
        denoise: float | None = None, compile: bool = False,
    ) -> None:  # fmt: skip
        found = loaded.found
        self.name, self.overlap = name, overlap
        self._others = ({} if denoise is None else {"denoise": denoise}) | ({"compile": True} if compile else {})
        self.digest, self.license, self.weights = found.digest, found.license, found.line
        self.descriptor = build_descriptor(name, loaded, scale)
        self.scale: int = self.descriptor.scale
        self._device = torch.device(choose_device(device))
        _expect_precision(self.descriptor, name, precision)
        self.descriptor.to(self._device).eval()
        self.descriptor.model.requires_grad_(False).to(memory_format=torch.channels_last)
        needs = self.descriptor.size_requirements
        self.fit = MemoryFit(
            name, self._device, self.scale, tile=tile, overlap=overlap, batch=batch, multiple=needs.multiple_of,
            smallest=max(SMALLEST_TILE, needs.minimum, needs.multiple_of),
            room=pixels_that_fit(self.descriptor.model, self.scale) if self._device.type == "cpu" else None,
        )  # fmt: skip
        self.descriptor.model.register_forward_hook(_expect_finite)
        self.precision = settled_precision(precision, self._device, self._stands_bf16)
        if self._device.type == "cpu" and self.precision == "fp32" and not compile:
            winograd.speed_up(self.descriptor.model)
        if compile:
            self.descriptor.model.compile(backend=COMPILER, dynamic=False)

    def settings(self, index: int = 0) -> dict[str, Any]:
        return {**self.fit.made(index), "overlap": self.overlap, "precision": self.precision, **self._others}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """All of `jobs` with one tile size: the one asked for, or what memory allows for their largest image."""
        return self.fit.run([job.image for job in jobs], self._forward, self._restored, [job.seat for job in jobs])

    def _stands_bf16(self) -> bool:
        return self.descriptor.supports_bfloat16 and self.distance("bf16") >= STANDS

    def distance(self, precision: str) -> float:
        """PSNR in dB of a drawn image's output in `precision` to that in fp32; -inf where it is not finite."""
        outputs = []
        for one in ("fp32", precision):
            with numerics(self._device, one):
                try:
                    outputs.append(self._outputs(probe_image(self.fit.smallest, self.fit.multiple)).permute(0, 3, 1, 2))
                except NonFiniteOutput:
                    return -math.inf
        exact, other = outputs
        return float(psnr(other, exact))

    def _forward(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) → float32 (n, h·scale, w·scale, 3) in [0, 1]. NonFiniteOutput."""
        with numerics(self._device, self.precision):
            return _fetched(self._outputs(images))

    def _restored(self, images: np.ndarray) -> np.ndarray:
        """The same, rounded to uint8 on the device: a quarter of the bytes to bring from there."""
        with numerics(self._device, self.precision):
            return _fetched(self._outputs(images).clamp_(0, 1).mul_(255).round_().to(torch.uint8))

    def _outputs(self, images: np.ndarray) -> torch.Tensor:
        inputs = _sent(images, self._device).permute(0, 3, 1, 2)  # channels last in memory, as it came
        with self._compiling():
            outputs = self.descriptor(inputs.float().div_(255)).float()
        if not torch.isfinite(outputs).all():
            raise NonFiniteOutput(f"{self.name} gave values that are not finite")
        return outputs.permute(0, 2, 3, 1).contiguous()

    @contextlib.contextmanager
    def _compiling(self) -> Iterator[None]:
        """UserError where torch.compile cannot compile the network."""
        try:
            yield
        except RuntimeError as error:
            if type(error).__module__ != "torch._dynamo.exc":
                raise
            raise UserError(
                f"{self.name} could not be compiled ({str(error).strip().splitlines()[0][:160]}).",
                "Set inference.compile=false.",
            ) from None


def _sent(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on the device; to CUDA by memory that it reads by itself while this thread goes on."""
    tensor = torch.from_numpy(images)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _fetched(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array; from CUDA by memory that it writes by itself, several times as fast."""
    if tensor.device.type == "cuda":
        tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return tensor.cpu().numpy()


def probe_image(least: int, multiple: int) -> np.ndarray:
    """Slopes, waves, an edge and grain as one image, uint8 (1, side, side, 3), of at least `least` pixels and 64."""
    side = -(-max(least, 64) // multiple) * multiple
    y, x = np.mgrid[:side, :side] / side
    grain = np.random.default_rng(0).normal(0, 0.03, (side, side))
    light = 0.5 + 0.3 * np.sin(40 * x * (0.2 + y)) * y + 0.2 * (x > 0.6) * (y > 0.3) + grain
    colours = np.stack([light, light * (0.5 + 0.5 * y), light * (1 - 0.5 * x)], axis=2)
    return tiles.quantised(colours.astype(np.float32))[None]


def wrong_scale(name: str, has: int, wanted: int) -> UserError:
    """The error for a network of another factor than the recipe's."""
    return UserError(
        f"The SR model '{name}' upscales ×{has}, but ×{wanted} was requested.", f"Set scale={has}, or choose another model."
    )


def _expect_finite(module: Any, inputs: Any, output: Any) -> None:
    """spandrel clamps the output, which would make an infinite value white: look before that."""
    if isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
        raise NonFiniteOutput(f"{type(module).__name__} gave values that are not finite")


def build_descriptor(name: str, loaded: Loaded, scale: int | None) -> ImageModelDescriptor:
    """The network that spandrel builds of weights, of factor `scale` if that is given. UserError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)  # some architectures call it the old way
            descriptor = ModelLoader().load_from_state_dict(loaded.state)
    except Exception as error:  # architectures reject foreign tensors with errors of many kinds
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".: ") or type(error).__name__
        keys = first_keys(loaded.state)
        raise UserError(
            f"{loaded.found.file} holds no network that spandrel knows ({reason[:120]}; its keys are {keys}).",
            "Give the weights of an SR network.",
        ) from None
    if not isinstance(descriptor, ImageModelDescriptor) or {descriptor.input_channels, descriptor.output_channels} != {3}:
        raise UserError(
            f"{loaded.found.file} holds a {descriptor.architecture.name} network, which does not restore RGB images.",
            "Give the weights of an SR network for RGB.",
        )
    _expect_release(descriptor, loaded.found)
    if scale and descriptor.scale != scale:
        raise wrong_scale(name, descriptor.scale, scale)
    return descriptor


def _expect_release(descriptor: ImageModelDescriptor, found: Found) -> None:
    release = found.release
    if release is None:
        return
    tags = [str(tag) for tag in descriptor.tags]
    if (
        descriptor.architecture.id != release.architecture
        or not set(release.tags) <= set(tags)
        or descriptor.scale != release.scale
    ):
        raise UserError(
            f"{found.file} holds {descriptor.architecture.id} {' '.join(tags)} ×{descriptor.scale}, "
            f"not {release.architecture} {' '.join(release.tags)} ×{release.scale} as its name says.",
            "Put the right file there, or name this one as spandrel:PATH.",
        )


def _expect_precision(descriptor: ImageModelDescriptor, name: str, precision: str) -> None:
    supported = {"auto": True, "fp32": True, "tf32": True, "bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    if precision not in supported:
        raise UserError(f"There is no precision '{precision}'.", f"Choose from: auto, {', '.join(PRECISIONS)}.")
    if not supported[precision]:
        raise UserError(
            f"{name} is a {descriptor.architecture.name} network, which does not run in {precision}.", "Set precision=fp32."
        )
