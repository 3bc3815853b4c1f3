"""Export to ONNX or torch.export: reward models that run without this package, checked."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError, missing_extra
from fgr.reward.model import FinPercepRM
from fgr.training.low_rank import merge_low_rank

TOLERANCE = 1e-3  # largest difference of a score or map value that still counts as the same model
TRACED = (2, 6, 5)  # batch, and height and width in cells, of the image that is traced
CHECKED = ((1, 4, 4), (3, 5, 9))


class Plain(nn.Module):
    """The model for images whose sides are multiples of `multiple`: no padding, every pixel counts."""

    def __init__(self, model: FinPercepRM) -> None:
        super().__init__()
        self.model = FinPercepRM(**model.settings).eval()  # not a deep copy: its parametrizations would be the model's own
        self.model.load_state_dict(model.state_dict())
        merge_low_rank(self.model.encoder)
        with_even_padding(self.model.encoder)
        for layer in self.model.modules():
            if hasattr(layer, "inplace"):  # the exporters make a copy of each such layer's input: a third more time
                layer.inplace = False  # type: ignore[assignment]
        decoder, reductions = self.model.decoder, self.model.encoder.reductions
        self.ratio = reductions[-1] // reductions[-len(decoder.levels)] if decoder else 1

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """score (B,) and map (B, 1, H, W) of float32 image (B, 3, H, W) RGB in [0, 1]."""
        model = self.model
        features = model.encoder((image - model.input_mean) / model.input_std)
        deepest = model.norm(features[-1])
        if model.decoder is None:
            map_ = torch.zeros_like(image[:, :1])
            modulation = torch.full_like(deepest[:, :1], float(model.gate == "paper"))
        else:
            small = torch.sigmoid(model.decoder(features))
            map_ = functional.interpolate(small, (image.shape[-2], image.shape[-1]), mode="bilinear", align_corners=False)
            modulation = functional.avg_pool2d(small, self.ratio)
        return model.score_of(model.hidden_units(deepest, modulation).mean((2, 3)), torch.ones_like(image[:, 0, 0, :1])), map_


class EvenPadding(nn.Module):
    """TensorFlow's "same" padding before a convolution, for sides that its stride divides: there it is always the same."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.layer = convolution
        pads = [max(kernel - stride, 0) for kernel, stride in zip(convolution.kernel_size, convolution.stride, strict=True)]
        self.pads = (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.Conv2d.forward(self.layer, functional.pad(x, self.pads))


def with_even_padding(module: nn.Module) -> nn.Module:
    """`module` with timm's size-dependent convolutions replaced: of symbolic sizes the exporters make no end of formulas."""
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, EvenPadding(layer))
    return module


def export(model: FinPercepRM, path: Path) -> dict[str, float]:
    """Write `model` to `path`, a .pt2 or .onnx file that takes any batch of images whose sides are multiples of `multiple`.

    Returns the largest differences of `score` and `map` between the file, opened again, and the model. UserError for another
    ending, an absent package, or if they differ by more than TOLERANCE.
    """
    if path.suffix not in WRITERS:
        raise UserError(f"'{path}' ends neither in .pt2 (torch.export) nor in .onnx.", "Name the file, for example rm.onnx.")
    write, read = WRITERS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    plain = Plain(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters deprecate their own calls
            write(plain, _images(TRACED, model.multiple), _shapes(model.multiple), temporary)
            differences = _parity(plain.model, read(temporary))
        if max(differences.values()) > TOLERANCE:
            raise UserError(
                f"The exported file does not reproduce the model's outputs: "
                f"score ±{differences['score']:.2g}, map ±{differences['map']:.2g}.",
                "Nothing was written. Export on the CPU with the versions of torch and onnx that fgr requires.",
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return differences


def _write_program(plain: Plain, image: torch.Tensor, shapes: Any, path: Path) -> None:
    torch.export.save(torch.export.export(plain, (image,), dynamic_shapes=shapes), path)


def _write_onnx(plain: Plain, image: torch.Tensor, shapes: Any, path: Path) -> None:
    torch.onnx.export(
        plain,
        (image,),
        path,
        input_names=["image"],
        output_names=["score", "map"],
        dynamic_shapes=shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _read_program(path: Path) -> Callable[[torch.Tensor], Any]:
    return torch.export.load(path).module()


def _read_onnx(path: Path) -> Callable[[torch.Tensor], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: [torch.from_numpy(output) for output in session.run(None, {"image": image.numpy()})]


def _needs_onnx(write: Callable[..., None]) -> Callable[..., None]:
    def checked(*arguments: Any) -> None:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            try:
                __import__(package)
            except ImportError:
                raise missing_extra(package, "onnx", "ONNX export") from None
        write(*arguments)

    return checked


WRITERS: dict[str, tuple[Callable[..., None], Callable[[Path], Callable[[torch.Tensor], Any]]]] = {
    ".pt2": (_write_program, _read_program),
    ".onnx": (_needs_onnx(_write_onnx), _read_onnx),
}


def _shapes(multiple: int) -> tuple[dict[int, Any]]:
    dim = torch.export.Dim
    return ({0: dim("batch", min=1), 2: multiple * dim("rows", min=2), 3: multiple * dim("columns", min=2)},)


def _images(size: tuple[int, int, int], multiple: int) -> torch.Tensor:
    batch, rows, columns = size
    return torch.rand(batch, 3, rows * multiple, columns * multiple, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _parity(model: FinPercepRM, other: Callable[[torch.Tensor], Any]) -> dict[str, float]:
    differences = {"score": 0.0, "map": 0.0}
    for size in CHECKED:
        image = _images(size, model.multiple)
        for name, ours, theirs in zip(differences, model(image), other(image), strict=True):
            differences[name] = max(differences[name], float((ours - theirs).abs().max()))
    return differences
