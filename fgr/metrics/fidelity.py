"""Full-reference metrics: PSNR, SSIM, MS-SSIM and a mean of SSIM and gradient similarity. Pure.

Images are float (B, 3, H, W) in [0, 1], values (B,), larger = closer to the reference. `border` pixels are cut off each side
first; `luma` compares the Y of BT.601 in 8-bit studio range (16…235), as the SR literature does, over a data range of 255.
Everything is differentiable. ValueError for shapes that do not fit.
"""

import torch
from torch.nn import functional

LUMA = (65.481, 128.553, 24.966)  # of RGB in [0, 1]; the offset is 16
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of Wang, Simoncelli and Bovik 2003, finest first
WINDOW = 11  # side of SSIM's Gaussian window
GMS_STABILITY = 0.0026  # of Xue et al. 2014 for gradients of images in [0, 1] (170 for 8-bit ones)
ROOM = (11, 22, 44, 99, 176)  # shorter side from which MS-SSIM has one scale more


def psnr(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB; inf where the images are identical."""
    a, b = _compared(a, b, border, luma)
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def ssim(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004), 1 = identical: Gaussian window of 11 pixels, σ 1.5, mean over channels, places.

    Only places where the whole window lies within the image count, as in the SR literature.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = _compared(a, b, border, luma)
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} pixels a side, not {tuple(a.shape[-2:])}")
    _, places = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    edge = WINDOW // 2
    return places[..., edge:-edge, edge:-edge].flatten(1).mean(1)


def ms_ssim(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Multi-scale structural similarity, 1 = identical; five scales, or as many as the image has room for (`scales`), their
    weights then brought to sum 1: with fewer the figure is another one, comparable only among images of that size."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    a, b = _compared(a, b, border, luma)
    weights = SCALE_WEIGHTS[: scales(min(a.shape[-2:]))]
    betas = tuple(weight / sum(weights) for weight in weights)
    found = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, betas=betas, normalize="relu", reduction="none")
    return found.reshape(len(a))


def scales(side: int) -> int:
    """Number of scales, 1 … 5, that MS-SSIM uses at images whose shorter side has `side` pixels (64 → 3, 99 → 4, 176 → 5)."""
    if side < WINDOW:
        raise ValueError(f"MS-SSIM needs {WINDOW} pixels a side, not {side}")
    return sum(side >= room for room in ROOM)


def full_reference(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """How like its reference an image is, (B,) in about [0, 1], 1 = identical: mean of SSIM and gradient similarity.

    Both are (B, 3, H, W) in [0, 1] and are compared in grey. The gradient part is 1 − 4·GMSD cut at 0 (Xue et al. 2014): the
    deviation of the gradient magnitude similarity is about 0.2 for strongly damaged images. The mixture is ours.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = _grey(image), _grey(reference)
    structure = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    assert isinstance(structure, torch.Tensor)
    similarity = gradient_similarity(a, b).flatten(1)
    return (structure + (1 - 4 * similarity.std(1, correction=0)).clamp_min(0)) / 2


def gradient_similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Similarity of gradient magnitudes at each place of grey images (B, 1, H, W), at half resolution."""
    a, b = (_magnitude(functional.avg_pool2d(x, 2)) for x in (a, b))
    return (2 * a * b + GMS_STABILITY) / (a * a + b * b + GMS_STABILITY)


def _compared(a: torch.Tensor, b: torch.Tensor, border: int, luma: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What is compared of two batches of images: cropped, and Y / 255 as (B, 1, H, W) if `luma`."""
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(f"expected two tensors (B, 3, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    if border < 0 or min(a.shape[-2:]) <= 2 * border:
        raise ValueError(f"a border of {border} pixels leaves nothing of {tuple(a.shape[-2:])}")
    rows, columns = (slice(border, side - border) for side in a.shape[-2:])
    a, b = a[..., rows, columns], b[..., rows, columns]
    return (_luma(a), _luma(b)) if luma else (a, b)


def _luma(image: torch.Tensor) -> torch.Tensor:
    return ((image * image.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True) + 16) / 255


def _grey(image: torch.Tensor) -> torch.Tensor:
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _magnitude(grey: torch.Tensor) -> torch.Tensor:
    prewitt = grey.new_tensor([[1.0, 0.0, -1.0]] * 3).view(1, 1, 3, 3) / 3
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across, down = functional.conv2d(padded, prewitt), functional.conv2d(padded, prewitt.transpose(2, 3))
    return (across.square() + down.square() + 1e-12).sqrt()
