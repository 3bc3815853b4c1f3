"""S_base: the scale that the scores of clean images are held to, and what the first phase distils."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from fgr.errors import UserError, missing_extra

Score = Callable[[torch.Tensor], torch.Tensor]
GMS_STABILITY = 0.0026  # of Xue et al. 2014 for gradients of images in [0, 1] (170 for 8-bit ones)


def full_reference(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How like its reference an image is, (B,) in about [0, 1], 1 = identical: mean of SSIM and gradient similarity.

    Both are (B, 3, H, W) in [0, 1] and are compared in grey. The gradient part is 1 − 4·GMSD cut at 0 (Xue et al. 2014): the
    deviation of the gradient magnitude similarity is about 0.2 for strongly damaged images. The mixture is ours.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    a, b = _grey(image), _grey(reference)
    structure = ssim(a, b, data_range=1.0, reduction="none")
    assert isinstance(structure, torch.Tensor)
    similarity = gradient_similarity(a, b).flatten(1)
    return (structure + (1 - 4 * similarity.std(1, correction=0)).clamp_min(0)) / 2


def gradient_similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Similarity of gradient magnitudes at each place of grey images (B, 1, H, W), at half resolution."""
    a, b = (_magnitude(functional.avg_pool2d(x, 2)) for x in (a, b))
    return (2 * a * b + GMS_STABILITY) / (a * a + b * b + GMS_STABILITY)


def open_base(name: str, device: torch.device | str = "cpu", differentiable: bool = False) -> Score:
    """The no-reference image-quality model `name`: image (B, 3, H, W) in [0, 1] → score (B,) in about [0, 1], larger = better.

    `name` is `clipiqa` or `pyiqa:METRIC`; `differentiable` asks for gradients by the image, which clipiqa always gives.
    UserError for a metric that is unknown or that needs a reference, and for absent weights.
    """
    if name == "clipiqa":
        from fgr.metrics.clipiqa import open_clipiqa

        return open_clipiqa(device)
    return _pyiqa(name.removeprefix("pyiqa:"), device, differentiable)


def _pyiqa(metric: str, device: torch.device | str, differentiable: bool) -> Score:
    try:
        import pyiqa
    except ImportError:
        raise missing_extra("pyiqa", "iqa", f"The base score pyiqa:{metric}") from None
    from fgr.errors import nearest

    known = pyiqa.list_models()
    if metric not in known:
        raise UserError(f"pyiqa has no metric '{metric}'{nearest(metric, known)}.", "pyiqa.list_models() lists them.")
    try:
        options: dict[str, Any] = {"as_loss": True, "loss_reduction": "none"} if differentiable else {}
        model = pyiqa.create_metric(metric, device=torch.device(device), **options)
    except OSError as error:
        raise UserError(
            f"The weights of pyiqa's {metric} cannot be had: {error}", "Check the connection, or use base.name=clipiqa."
        ) from None
    if model.metric_mode != "NR":
        raise UserError(f"pyiqa's {metric} needs a reference image.", "Name a no-reference metric, for example pyiqa:musiq.")
    low, high = _range(model)
    sign = -1 if model.lower_better else 1

    def score(image: torch.Tensor) -> torch.Tensor:
        value = (model(image).flatten() - low) / (high - low)
        return value if sign > 0 else 1 - value

    return score


def _range(model: Any) -> tuple[float, float]:
    low, high = (float(part.strip(" ~")) for part in str(model.score_range).split(",")[:2])
    return low, high


def _grey(image: torch.Tensor) -> torch.Tensor:
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _magnitude(grey: torch.Tensor) -> torch.Tensor:
    prewitt = grey.new_tensor([[1.0, 0.0, -1.0]] * 3).view(1, 1, 3, 3) / 3
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across, down = functional.conv2d(padded, prewitt), functional.conv2d(padded, prewitt.transpose(2, 3))
    return (across.square() + down.square() + 1e-12).sqrt()
