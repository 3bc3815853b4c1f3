"""How close images are to their references: PSNR, SSIM, MS-SSIM. Pure: float (B, 3, H, W) in [0, 1] in, (B,) out.

`border` pixels are cut off each side first; `luma` compares the Y of BT.601 in 8-bit studio range (16…235), as the SR literature
does, over a data range of 255. Everything is differentiable. ValueError for shapes that do not fit.
"""

import torch

LUMA = (65.481, 128.553, 24.966)  # of RGB in [0, 1]; the offset is 16
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of Wang, Simoncelli and Bovik 2003, finest first
WINDOW = 11  # side of SSIM's Gaussian window
ROOM = (11, 22, 44, 99, 176)  # shorter side from which MS-SSIM has one scale more


def psnr(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB; inf where the images are identical."""
    a, b = prepared(a, b, border, luma)
    return -10 * (a - b).square().flatten(1).mean(1).log10()


def ssim(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004), 1 = identical: Gaussian window of 11 pixels, σ 1.5, mean over channels, places.

    Only places where the whole window lies within the image count, as in the SR literature.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = prepared(a, b, border, luma)
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs {WINDOW} pixels a side, not {tuple(a.shape[-2:])}")
    _, places = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", return_full_image=True)
    edge = WINDOW // 2
    return places[..., edge:-edge, edge:-edge].flatten(1).mean(1)


def ms_ssim(a: torch.Tensor, b: torch.Tensor, border: int = 0, luma: bool = False) -> torch.Tensor:
    """Multi-scale structural similarity, 1 = identical; five scales, or as many as the image has room for (`scales`), their
    weights then brought to sum 1: with fewer the figure is another one, comparable only among images of that size."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    a, b = prepared(a, b, border, luma)
    weights = SCALE_WEIGHTS[: scales(min(a.shape[-2:]))]
    betas = tuple(weight / sum(weights) for weight in weights)
    found = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, betas=betas, normalize="relu", reduction="none")
    return found.reshape(len(a))


def scales(side: int) -> int:
    """Number of scales, 1 … 5, that MS-SSIM uses at images whose shorter side has `side` pixels (64 → 3, 99 → 4, 176 → 5)."""
    if side < WINDOW:
        raise ValueError(f"MS-SSIM needs {WINDOW} pixels a side, not {side}")
    return sum(side >= room for room in ROOM)


def prepared(a: torch.Tensor, b: torch.Tensor, border: int, luma: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What is compared of two batches of images: cut, and Y / 255 as (B, 1, H, W) if `luma`."""
    if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
        raise ValueError(f"expected two tensors (B, 3, H, W) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    if border < 0 or min(a.shape[-2:]) <= 2 * border:
        raise ValueError(f"a border of {border} pixels leaves nothing of {tuple(a.shape[-2:])}")
    rows, columns = (slice(border, side - border) for side in a.shape[-2:])
    a, b = a[..., rows, columns], b[..., rows, columns]
    return (_luma(a), _luma(b)) if luma else (a, b)


def _luma(image: torch.Tensor) -> torch.Tensor:
    return ((image * image.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True) + 16) / 255
