"""The figures of an SR output, by name: fidelity to the reference, learned distances, no-reference quality.

psnr ssim ms-ssim                     fgr.metrics.fidelity
lpips lpips-vgg dists                 torchmetrics, on torchvision's AlexNet and VGG16
niqe musiq maniqa clipiqa liqe        pyiqa (extra `iqa`, for non-commercial use)
pyiqa:NAME                            any other of pyiqa's
clipiqa-open                          CLIP-IQA on the weights of CLIP RN50 alone (fgr.metrics.clipiqa)

A metric that cannot be had is an error, never left out and never another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from fgr.errors import UserError, missing_extra, nearest
from fgr.metrics import fidelity as metrics

Measure = Callable[[torch.Tensor, torch.Tensor | None], float]


@dataclass(frozen=True, slots=True)
class Judge:
    """A metric, open. `measure` takes output and reference, float32 (1, 3, H, W) in [0, 1]."""

    name: str
    needs_reference: bool
    lower_is_better: bool
    origin: str  # package, version and weights, for the protocol
    measure: Measure


def open_judges(names: Sequence[str], *, device: str = "cpu", border: int = 0, luma: bool = False) -> list[Judge]:
    """Open the metrics `names`; `border` and `luma` are those of PSNR, SSIM and MS-SSIM. UserError with every one that cannot
    be had."""
    found, problems = [], []
    for name in dict.fromkeys(names):
        try:
            found.append(_open(name, device, border, luma))
        except UserError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listed = "\n".join(f"  {problem.message} {problem.hint or ''}" for problem in problems)
        raise UserError(f"{len(problems)} metrics cannot be had:\n{listed}", "Put that right, or leave them out of --metrics.")
    return found


def _open(name: str, device: str, border: int, luma: bool) -> Judge:
    if name in FIDELITY:
        return _fidelity(name, border, luma)
    if name in LEARNED:
        return LEARNED[name](name, device)
    if name in PYIQA or name.startswith("pyiqa:"):
        return _pyiqa(name, device)
    if name == "clipiqa-open":
        return _clipiqa(name, device)
    known = [*FIDELITY, *LEARNED, *PYIQA, "clipiqa-open", "pyiqa:NAME"]
    raise UserError(f"There is no metric '{name}'{nearest(name, known)}.", f"Known: {', '.join(known)}.")


def _fidelity(name: str, border: int, luma: bool) -> Judge:
    metric = FIDELITY[name]

    def measure(image: torch.Tensor, reference: torch.Tensor | None) -> float:
        assert reference is not None
        return float(metric(image, reference, border, luma))

    return Judge(name, True, False, f"fgr.metrics.fidelity, {'Y of BT.601' if luma else 'RGB'}, border {border}", measure)


def _lpips(net: Literal["alex", "vgg"], name: str, device: str) -> Judge:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import AlexNet_Weights, VGG16_Weights

    weights = {"alex": AlexNet_Weights, "vgg": VGG16_Weights}[net].DEFAULT
    _expect_torchvision(name, weights.url)
    model = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True).to(device)
    return Judge(name, True, True, _torchmetrics(weights.url), partial(_call, model))


def _dists(name: str, device: str) -> Judge:
    from torchmetrics.image.dists import DeepImageStructureAndTextureSimilarity
    from torchvision.models import VGG16_Weights

    _expect_torchvision(name, VGG16_Weights.DEFAULT.url)
    model = DeepImageStructureAndTextureSimilarity().to(device)
    return Judge(name, True, True, _torchmetrics(VGG16_Weights.DEFAULT.url), partial(_call, model))


def _call(model: Any, image: torch.Tensor, reference: torch.Tensor | None) -> float:
    with torch.inference_mode():
        value = float(model(image, reference))
    model.reset()
    return value


def _expect_torchvision(name: str, url: str) -> None:
    """Fetch and open torchvision's weights without running anything in them; torchvision itself would unpickle what is there."""
    from pickle import UnpicklingError

    file = url.rpartition("/")[2]
    try:
        torch.hub.load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True, weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, KeyError) as error:
        raise UserError(
            f"The weights {file} in {torch.hub.get_dir()}/checkpoints, which {name} needs, are damaged: {_short(error)}",
            "Delete the file; it is fetched again.",
        ) from None
    except OSError as error:
        raise UserError(
            f"The weights {file}, which {name} needs, cannot be fetched: {_short(error)}.",
            f"Connect, or copy the file into {torch.hub.get_dir()}/checkpoints (TORCH_HOME names another folder).",
        ) from None


def _torchmetrics(url: str) -> str:
    from importlib.metadata import version

    return f"torchmetrics {version('torchmetrics')}, {url.rpartition('/')[2]}"


def _pyiqa(name: str, device: str) -> Judge:
    metric = name.removeprefix("pyiqa:")
    try:
        import pyiqa
    except ImportError:
        raise missing_extra("pyiqa", "iqa", f"The metric {name}") from None
    known = pyiqa.list_models()
    if metric not in known:
        raise UserError(f"pyiqa has no metric '{metric}'{nearest(metric, known)}.", "pyiqa.list_models() lists them.")
    try:
        model = pyiqa.create_metric(metric, device=torch.device(device))
    except Exception as error:  # every metric of pyiqa fetches its weights in its own way
        raise UserError(
            f"The weights of pyiqa's {metric} cannot be had: {_short(error)}", "Check the connection, or copy pyiqa's cache."
        ) from None
    reference = model.metric_mode == "FR"

    def measure(image: torch.Tensor, target: torch.Tensor | None) -> float:
        with torch.inference_mode():
            return float(model(image, target) if reference else model(image))

    return Judge(name, reference, bool(model.lower_better), f"pyiqa {pyiqa.__version__}", measure)


def _clipiqa(name: str, device: str) -> Judge:
    from fgr.metrics.clipiqa import HUB, open_clipiqa

    model = open_clipiqa(device)

    def measure(image: torch.Tensor, reference: torch.Tensor | None) -> float:
        with torch.inference_mode():
            return float(model(image))

    return Judge(name, False, False, f"fgr.metrics.clipiqa on {HUB}", measure)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


FIDELITY = {"psnr": metrics.psnr, "ssim": metrics.ssim, "ms-ssim": metrics.ms_ssim}
LEARNED: dict[str, Callable[[str, str], Judge]] = {
    "lpips": partial(_lpips, "alex"),
    "lpips-vgg": partial(_lpips, "vgg"),
    "dists": _dists,
}
PYIQA = ("niqe", "musiq", "maniqa", "clipiqa", "liqe")
