"""Image metrics by name, each opened in one place, for evaluation, recipes, audit and anchor alike.

psnr ssim ms-ssim    fidelity to the reference (fgr.metrics.fidelity)
full-reference       mean of SSIM and gradient similarity (fgr.metrics.fidelity)
lpips lpips-vgg      LPIPS on AlexNet or VGG16 (fgr.metrics.perceptual)
dists                DISTS (fgr.metrics.perceptual)
lite0-distance       distance of EfficientNet-Lite0's features, whose weights a package has (fgr.metrics.perceptual)
timm:NAME            the same distance of another network's features: timm:mobilenetv2_100 (fgr.metrics.perceptual)
clipiqa              CLIP-IQA on the open weights of CLIP RN50 (fgr.metrics.no_reference)
niqe                 NIQE fitted on clean photographs that the caller gives (fgr.metrics.niqe_fit)
pyiqa:NAME           any metric of pyiqa (extra `iqa`, for non-commercial use)

A metric that is not available is an error: a figure is never left out silently.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch

from fgr.backbone_weights import KIND
from fgr.errors import UserError, nearest
from fgr.images.arrays import as_images
from fgr.metrics import fidelity, no_reference, perceptual

Measure = Callable[..., torch.Tensor]
Score = Callable[[torch.Tensor], torch.Tensor]  # images (B, 3, H, W) in [0, 1] → (B,) in about [0, 1], larger = better
RENAMED = {"clipiqa-open": "clipiqa"} | {name: f"pyiqa:{name}" for name in ("musiq", "maniqa", "liqe")}


@dataclass(frozen=True, slots=True)
class Metric:
    """An open metric. `measure(images[, references])` takes float32 (B, 3, H, W) in [0, 1] and gives (B,)."""

    name: str
    needs_reference: bool
    lower_is_better: bool
    differentiable: bool
    origin: str  # package, version and weights, for the protocol
    measure: Measure
    score_range: tuple[float, float] | None = None  # of no-reference metrics, about

    @torch.inference_mode()
    def value(self, image: torch.Tensor, reference: torch.Tensor | None = None) -> float:
        """The value of one image (1, 3, H, W), without a gradient; `reference` is used where the metric needs it."""
        return float(self.measure(image, reference) if self.needs_reference else self.measure(image))


@dataclass(frozen=True, slots=True)
class Options:
    """What metrics are opened with: `border` and `luma` are for fidelity, `photographs` and `patch` for `niqe`."""

    device: torch.device | str = "cpu"
    border: int = 0
    luma: bool = False
    photographs: Iterable[np.ndarray] | None = None  # clean, uint8 (H, W, 3)
    patch: int = 96
    differentiable: bool = False


def open_metric(name: str, options: Options | None = None) -> Metric:
    """Open the metric `name`. UserError: an unknown name, weights or a package that are not available, nothing to fit on."""
    chosen = options or Options()
    if name in METRICS:
        return METRICS[name](name, chosen)
    if name.startswith("pyiqa:"):
        return _pyiqa(name, chosen)
    if name.startswith(KIND):
        return _feature_distance(name.removeprefix(KIND), name, chosen)
    if name in RENAMED:
        raise UserError(f"The metric '{name}' is now called {RENAMED[name]}.", f"Name {RENAMED[name]}.")
    known = [*METRICS, "pyiqa:NAME", f"{KIND}NAME"]
    raise UserError(f"There is no metric '{name}'{nearest(name, known)}.", f"Known: {', '.join(known)}.")


def open_metrics(names: Sequence[str], options: Options | None = None) -> list[Metric]:
    """Open the metrics `names`, each once. UserError that names every one that is not available."""
    found, problems = [], []
    for name in dict.fromkeys(names):
        try:
            found.append(open_metric(name, options))
        except UserError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = [f"{problem.message} {problem.hint or ''}".rstrip() for problem in problems]
        raise UserError(f"{len(problems)} metrics are not available:", "Correct that, or leave them out.", lines)
    return found


def open_base(name: str, device: torch.device | str = "cpu", differentiable: bool = False) -> Score:
    """S_base: the no-reference metric `name`, scaled to about [0, 1], larger = better.

    `differentiable` asks for gradients by the image. UserError as of `open_metric`, and for metrics that need a reference, are
    not differentiable or have no range.
    """
    metric = open_metric(name, Options(device, differentiable=differentiable))
    if metric.needs_reference:
        raise UserError(f"The metric {name} needs a reference image.", "Name a no-reference metric, for example pyiqa:musiq.")
    if metric.score_range is None or (differentiable and not metric.differentiable):
        raise UserError(f"The metric {name} cannot serve as a score.", "Name clipiqa or pyiqa:NAME.")
    low, high = metric.score_range

    def score(image: torch.Tensor) -> torch.Tensor:
        value = (metric.measure(image) - low) / (high - low)
        return 1 - value if metric.lower_is_better else value

    return score


def _fidelity(metric: Measure, name: str, options: Options) -> Metric:
    channel = "Y of BT.601" if options.luma else "RGB"
    measure = partial(metric, border=options.border, luma=options.luma)
    return Metric(name, True, False, True, f"fgr.metrics.fidelity, {channel}, border {options.border}", measure)


def _full_reference(name: str, options: Options) -> Metric:
    return Metric(name, True, False, True, "fgr.metrics.fidelity, grey", fidelity.full_reference)


def _lpips(network: Literal["alex", "vgg"], name: str, options: Options) -> Metric:
    measure, file = perceptual.open_lpips(network, options.device)
    return Metric(name, True, True, True, f"torchmetrics {version('torchmetrics')}, {file}", measure)


def _dists(name: str, options: Options) -> Metric:
    measure, file = perceptual.open_dists(options.device)
    return Metric(name, True, True, True, f"torchmetrics {version('torchmetrics')}, {file}", measure)


def _feature_distance(network: str, name: str, options: Options) -> Metric:
    measure, weights = perceptual.open_feature_distance(network, options.device, f"; or leave {name} out")
    return Metric(name, True, True, True, f"fgr.metrics.perceptual, {weights}", measure)


def _clipiqa(name: str, options: Options) -> Metric:
    measure = no_reference.open_clipiqa(options.device)
    origin = f"fgr.metrics.no_reference on {no_reference.HUB}"
    return Metric(name, False, False, True, origin, lambda image, reference=None: measure(image), (0.0, 1.0))


def _niqe(name: str, options: Options) -> Metric:
    from fgr.metrics import niqe_fit

    if options.photographs is None:
        raise UserError(
            "The metric niqe is fitted on clean photographs, and there are none here to fit it on.",
            "Name pyiqa:niqe, which comes fitted.",
        )
    try:
        distance = niqe_fit.fit(options.photographs, options.patch)
    except ValueError as error:
        raise UserError(
            f"The metric niqe cannot be fitted on the photographs: {error}.",
            "Give more photographs, or fit on smaller patches (audit.patch).",
        ) from None

    def measure(image: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tensor([distance(one) for one in as_images(image)], dtype=torch.float64)

    return Metric(name, False, True, False, f"fgr.metrics.niqe_fit, {distance.patches} patches of {distance.patch}", measure)


def _pyiqa(name: str, options: Options) -> Metric:
    model = no_reference.open_pyiqa(name.removeprefix("pyiqa:"), options.device, options.differentiable)
    paired = model.metric_mode == "FR"

    def measure(image: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
        value: Any = model(image, reference) if paired else model(image)
        return value.flatten()

    score_range = None if paired else no_reference.pyiqa_range(model)
    origin = f"pyiqa {_pyiqa_version()}"
    return Metric(name, paired, bool(model.lower_better), options.differentiable, origin, measure, score_range)


def _pyiqa_version() -> str:
    import pyiqa

    return str(pyiqa.__version__)


METRICS: dict[str, Callable[[str, Options], Metric]] = {
    "psnr": partial(_fidelity, fidelity.psnr),
    "ssim": partial(_fidelity, fidelity.ssim),
    "ms-ssim": partial(_fidelity, fidelity.ms_ssim),
    "full-reference": _full_reference,
    "lpips": partial(_lpips, "alex"),
    "lpips-vgg": partial(_lpips, "vgg"),
    "dists": _dists,
    "lite0-distance": partial(_feature_distance, perceptual.LITE0),
    "clipiqa": _clipiqa,
    "niqe": _niqe,
}
