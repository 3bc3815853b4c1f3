"""GRPO's objective: advantages within groups, clipped ratios. Pure.

Flow-GRPO (arXiv 2505.05470) and DanceGRPO (2505.07818) for scalar rewards, DenseFlow-GRPO (in 2510.01010) for a reward a place.
"""

from typing import Literal

import torch

Spread = Literal["group", "global", "none"]
SMALLEST_SD = 1e-4


def advantages(rewards: torch.Tensor, spread: Spread = "global", clip: float = 5.0) -> torch.Tensor:
    """Rewards (groups, G, …) less their group's mean, over a deviation, within ±clip.

    `group` divides by each group's own deviation, which blows up where all members are alike; `global` by that of the whole
    batch; `none` by nothing. ValueError for groups of one: their advantage is always 0.
    """
    if rewards.ndim < 2 or rewards.shape[1] < 2:
        raise ValueError(f"groups need at least two members, got {tuple(rewards.shape)}")
    centred = rewards - rewards.mean(1, keepdim=True)
    if spread == "group":
        centred = centred / rewards.std(1, keepdim=True, correction=0).clamp_min(SMALLEST_SD)
    elif spread == "global":
        centred = centred / rewards.std(correction=0).clamp_min(SMALLEST_SD)
    return centred.clamp(-clip, clip)


def clipped(log_prob: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """PPO's loss, mean of −min(ρA, clip(ρ, 1 ± clip)·A), ρ = exp(log_prob − old); all of one shape."""
    ratio = (log_prob - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def dense_rewards(rewards: torch.Tensor, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A reward a place, (B, h, w): each image's reward (B,), less where its degradation map (B, 1, H, W) is high.

    R(h, w) = R − M(h, w) with R in z-units and M brought to unit deviation over the batch. (The published R·(1 − M) turns a low
    reward's sign around: for negative R a bad place gains. The sum is ours.)
    """
    resized = torch.nn.functional.adaptive_avg_pool2d(maps.float(), size).squeeze(1)
    scaled = (resized - resized.mean()) / resized.std(correction=0).clamp_min(SMALLEST_SD)
    return rewards.view(-1, 1, 1) - scaled


def window(step: int, steps: int, size: int, every: int) -> range:
    """Which of the denoising steps are stochastic and learned in training step `step` (MixGRPO, arXiv 2507.21802).

    `size` steps from a place that moves on by one every `every` training steps and begins anew at the end; 0 = all. The last
    denoising step, whose variance is 0, never is.
    """
    last = steps - 1
    if not size or size >= last:
        return range(last)
    places = last - size + 1
    start = step // every % places
    return range(start, start + size)
