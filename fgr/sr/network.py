"""SR networks that spandrel builds: run whole or in tiles, smaller ones when memory runs out."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.sr import winograd
from fgr.sr.jobs import Job, NonFiniteOutput
from fgr.sr.memory import MemoryFit, pixels_that_fit
from fgr.sr.weights import Found, Loaded
from fgr.tensors import first_keys

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_TILE = 32
COMPILER = "inductor"


class Network:
    """An SR network on a device. On the CPU images run one at a time, so that their bytes do not depend on their neighbours."""

    external = False

    def __init__(
        self, name: str, loaded: Loaded, scale: int | None, device: str, tile: int, overlap: int, precision: str, batch: int,
        denoise: float | None = None, compile: bool = False,
    ) -> None:  # fmt: skip
        found = loaded.found
        self.name, self.overlap, self.precision = name, overlap, precision
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
        if self._device.type == "cpu" and precision == "fp32" and not compile:
            winograd.speed_up(self.descriptor.model)
        if compile:
            self.descriptor.model.compile(backend=COMPILER, dynamic=False)

    def settings(self, index: int = 0) -> dict[str, Any]:
        return {"tile": self.fit.last_tile, "overlap": self.overlap, "precision": self.precision, **self._others}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        """All of `jobs` with one tile size: the one asked for, or what memory allows for their largest image."""
        return self.fit.run([job.image for job in jobs], self._forward, self._restored)

    def _forward(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) → float32 (n, h·scale, w·scale, 3) in [0, 1]. NonFiniteOutput."""
        with numerics(self._device, self.precision):
            return self._outputs(images).cpu().numpy()

    def _restored(self, images: np.ndarray) -> np.ndarray:
        """The same, rounded to uint8 on the device: a quarter of the bytes to bring from there."""
        with numerics(self._device, self.precision):
            return self._outputs(images).clamp_(0, 1).mul_(255).round_().to(torch.uint8).cpu().numpy()

    def _outputs(self, images: np.ndarray) -> torch.Tensor:
        inputs = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)  # channels last in memory, as it came
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


@contextlib.contextmanager
def numerics(device: torch.device, precision: str) -> Iterator[None]:
    """Inference in `precision` by autocast; on CUDA the same bytes every time, and fp32 that is fp32."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False))
        if PRECISIONS[precision] != torch.float32:
            stack.enter_context(torch.autocast(device.type, PRECISIONS[precision]))
        yield


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
    supported = {"fp32": True, "bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    if precision not in supported:
        raise UserError(f"There is no precision '{precision}'.", f"Choose from: {', '.join(PRECISIONS)}.")
    if not supported[precision]:
        raise UserError(
            f"{name} is a {descriptor.architecture.name} network, which does not run in {precision}.", "Set precision=fp32."
        )
