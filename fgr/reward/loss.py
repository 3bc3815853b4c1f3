"""The losses of the reward model, one by one. Pure: tensors in, a scalar tensor out.

Scores are (B,), larger = better; maps and their weights are (B, 1, H, W) in [0, 1], larger = worse. Weights say how much an
image or a pixel counts; a weight of zero removes it, and where everything is removed the loss is 0.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

Margin = float | torch.Tensor
TINY = 1e-6


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of `values` under `weight` (broadcast); 0 if nothing has weight."""
    weight = weight.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp_min(TINY)


def image_mean(values: torch.Tensor, weight: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    """Mean over images of each one's mean of `values` under `weight`, both (B, …): a small defect counts like a large one.

    Images whose mean weight is not above `least` do not count; 0 if none does.
    """
    values, weight = values.flatten(1), weight.flatten(1)
    each = (values * weight).sum(1) / weight.sum(1).clamp_min(TINY)
    return weighted_mean(each, (weight.mean(1) > least).to(each.dtype))


def _binary(map_: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    map_ = map_.float().clamp(TINY, 1 - TINY)
    return -(target * map_.log() + (1 - target) * (1 - map_).log())


def _focal(map_: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (map_ - target).abs().square() * _binary(map_, target)


MAP_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": lambda map_, target: (map_ - target).abs(),
    "smooth-l1": lambda map_, target: functional.smooth_l1_loss(map_, target, reduction="none", beta=0.1),
    "bce": _binary,
    "focal": _focal,
    "l1+bce": lambda map_, target: (map_ - target).abs() + _binary(map_, target),
}


def map_loss(map_: torch.Tensor, target: torch.Tensor, known: torch.Tensor, kind: str) -> torch.Tensor:
    """L_map where the target is `known` (0 or 1 a pixel), every image counting alike.

    `l1` is the paper's; `bce` is cross entropy against a soft target; `focal` weighs it by the squared error (quality focal loss,
    arXiv 2006.04388). An image of which nothing is known does not count.
    """
    error = MAP_LOSSES[kind](map_, target) * known
    area = known.sum((1, 2, 3))
    return weighted_mean(error.sum((1, 2, 3)) / area.clamp_min(1), (area > 0).to(error.dtype))


def pooled_target(target: torch.Tensor, known: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A target at coarser granularity: means over cells of `size` pixels, a cell being known only where all of it is.

    The result keeps the grid of the input, constant in each cell.
    """
    if size == 1:
        return target, known
    height, width = target.shape[-2:]
    cells = functional.avg_pool2d(target, size, ceil_mode=True, count_include_pad=False)
    whole = -functional.max_pool2d(-known, size, ceil_mode=True)
    grown = [x.repeat_interleave(size, 2).repeat_interleave(size, 3)[..., :height, :width] for x in (cells, whole)]
    return grown[0], grown[1]


PAIR_LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "margin": lambda shortfall: shortfall.clamp_min(0),
    "logistic": functional.softplus,
}


def pair_loss(better: torch.Tensor, worse: torch.Tensor, margin: Margin, weight: torch.Tensor, kind: str) -> torch.Tensor:
    """The loss of pairs that should be `margin` apart: a hinge (the paper), or logistic: softplus(margin − difference)."""
    return weighted_mean(PAIR_LOSSES[kind](margin - (better - worse)), weight)


def rank_loss(
    sr: torch.Tensor,
    composite: torch.Tensor,
    reference: torch.Tensor,
    margins: tuple[Margin, Margin],
    sr_below: torch.Tensor,
    composite_below: torch.Tensor,
    kind: str,
) -> torch.Tensor:
    """L_rank: S_SR < S_syn < S_GT with margins (m1, m2), each one number or one an image (B,).

    `sr_below` and `composite_below` (B,) are 1 where the order must hold: not where composite and SR image, or composite and
    reference, are the same.
    """
    below = pair_loss(composite, sr, margins[0], sr_below, kind)
    return below + pair_loss(reference, composite, margins[1], composite_below, kind)


def map_rank_loss(cleaner: torch.Tensor, worse: torch.Tensor, differs: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """The map of `worse` should lie above that of `cleaner` by `margin` in log odds; pixels count as the images differ.

    It says where a restored image is worse than its reference without knowing by how much.
    """
    return weighted_mean(_short_of(cleaner, worse, margin), differs)


def map_pair_loss(
    cleaner: torch.Tensor, worse: torch.Tensor, defect: torch.Tensor, room: torch.Tensor, margins: tuple[float, float]
) -> torch.Tensor:
    """The map of an image with a defect above that of the image without it, where the map of the defect alone says so.

    By `margins` (in log odds; as a share of `defect`, of which only what there is `room` for above the cleaner image's own map).
    """
    by_log_odds = image_mean(_short_of(cleaner, worse, margins[0]), defect)
    return by_log_odds + map_margin_loss(cleaner, worse, margins[1] * defect * room, defect)


def _short_of(cleaner: torch.Tensor, worse: torch.Tensor, margin: float) -> torch.Tensor:
    low, high = (torch.logit(map_.float(), eps=1e-4) for map_ in (cleaner, worse))
    return (margin - (high - low)).clamp_min(0)


def map_margin_loss(cleaner: torch.Tensor, worse: torch.Tensor, least: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The map of `worse` should lie above that of `cleaner` by `least`, in the map's own units, image by image under `weight`.

    A unit of log odds is invisible near 0 (0.004 to 0.011); this margin is not. Times 4, the slope of log odds at one half.
    """
    return 4 * image_mean((least - (worse - cleaner).float()).clamp_min(0), weight)


def align_loss(score: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """L_align: mean |S − S_base|."""
    return (score - base).abs().mean()


def human_loss(score: torch.Tensor, human: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Scores (B,) in the order of people's (B,): softplus of each pair's shortfall, the weight how far people's lie apart.
    0 where fewer than two are rated (`weight` > 0).

    Only the order counts: the scales of people and of S_base have no link but a monotone one.
    """
    apart = human[:, None] - human[None, :]
    pairs = apart.clamp_min(0) * weight[:, None] * weight[None, :]
    return weighted_mean(functional.softplus(score[None, :] - score[:, None]), pairs)


def preference_loss(left: torch.Tensor, right: torch.Tensor, choice: torch.Tensor) -> torch.Tensor:
    """Bradley–Terry: −log likelihood of people's choices, `choice` (B,) = 1 for left, 0 for right, 0.5 for a tie."""
    return functional.binary_cross_entropy_with_logits(left - right, choice)
