"""Diffusion-DPO (Wallace et al., arXiv 2311.12908). Pure."""

import torch
from torch.nn import functional


def errors(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Denoising errors (B,): mean squares over all values of an image."""
    return (output.float() - target.float()).square().flatten(1).mean(1)


def dpo_loss(
    winner: torch.Tensor, loser: torch.Tensor, winner_reference: torch.Tensor, loser_reference: torch.Tensor, beta: float,
    weight: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """−log σ(−½β[(e_w − e_l) − (e_w,ref − e_l,ref)]) of denoising errors (B,), mean under `weight`; and the margins (B,).

    At equality with the reference it is log 2. The margin is positive where the policy prefers the winner more than the
    reference does.
    """
    margin = -0.5 * beta * ((winner - loser) - (winner_reference - loser_reference))
    loss = -functional.logsigmoid(margin)
    return (loss.mean() if weight is None else (loss * weight).sum() / weight.sum()), margin.detach()


def ranked_pairs(rewards: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best `top` of each group of rewards (groups, N) against the worst `top`: indices of winners and losers (groups, top²),
    and weights (groups, top²) that grow with the gap and with the group's spread, of mean 1 (DP2O-SR, arXiv 2510.18851).

    ValueError unless 2·top ≤ N.
    """
    count = rewards.shape[1]
    if not 1 <= top <= count // 2:
        raise ValueError(f"the best {top} and the worst {top} of {count} overlap")
    order = rewards.argsort(1, descending=True)
    winners = order[:, :top].repeat_interleave(top, 1)
    losers = order[:, -top:].repeat(1, top)
    gap = rewards.gather(1, winners) - rewards.gather(1, losers)
    weight = gap.abs() * rewards.std(1, keepdim=True, correction=0)
    return winners, losers, weight / weight.mean().clamp_min(1e-12)
