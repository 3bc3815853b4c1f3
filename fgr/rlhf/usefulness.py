"""What a reward was worth: the tuned network against a control with the anchor alone.

An anchor that pulls to the reference improves a network by itself; what tuning adds is what lies beyond such a control. A network
that moved farther could only seem better or worse for it, so the change of the one that moved farther is scaled down.

An encoder that the reward shares may be blind to the same: beside the audit's figures stand distances of other encoders'
features, which have no vote and so chose nothing.
"""

from collections.abc import Callable
from typing import Any

import torch

from fgr.metrics import gap_closure
from fgr.recipe.rlhf import RlhfRecipe
from fgr.rlhf.audit import FULL_REFERENCE
from fgr.rlhf.auditor import Auditor, Baseline
from fgr.rlhf.policy import Policy, Weights

NOTHING = 1e-20  # the share of the reward in the control: small enough for Adam, which makes large steps of small gradients
STILL = 0.05  # 8-bit steps: a control that moved less was pulled nowhere

Network = Callable[[torch.Tensor], torch.Tensor]


def control_recipe(recipe: RlhfRecipe) -> RlhfRecipe:
    """The recipe without the reward: the anchor alone, one stage, nothing that ends it early."""
    return recipe.model_copy(update={
        "reward": recipe.reward.model_copy(update={"ratio": NOTHING}),
        "curriculum": recipe.curriculum.model_copy(update={"schedule": "none", "stage": None, "steps": ()}),
        "audit": recipe.audit.model_copy(update={"control": False, "planted": 0, "sheet": 0, "on_hacking": "continue"}),
    })  # fmt: skip


def compared(policy: Policy, auditor: Auditor, baseline: Baseline, tuned: Weights, control: Weights) -> dict[str, Any]:
    """Gap closures of both at the smaller of their distances, figure by figure, and what that says in words."""
    evaluation, device = auditor.evaluation, auditor.device
    nets = {"tuned": tuned, "control": control}
    moved = {}
    for name, weights in nets.items():
        with policy.holding(weights):
            moved[name] = float(evaluation.measure(policy, device, []).values["distance"].mean())
    least = min(moved.values())
    values = {}
    for name, weights in nets.items():
        with policy.holding(weights):
            share = least / moved[name] if moved[name] else 0.0
            values[name] = evaluation.measure(_towards(policy, share), device, []).values
    gaps = {name: auditor.evidence(baseline, one) for name, one in values.items()}
    rows = []
    for figure, metric in auditor.roles(baseline).items():
        if figure not in (*FULL_REFERENCE, *auditor.limits.control_features):
            continue
        pair = [gaps[name].gap(figure, metric.better) for name in nets]
        closed = [gap_closure.closure(gap, auditor.photographs).value for gap in pair]
        lead = gap_closure.lead(pair[:1], pair[1:], auditor.photographs)
        rows.append({"figure": figure, "tuned": closed[0], "control": closed[1], "difference": lead.value, "low": lead.low,
                     "high": lead.high})  # fmt: skip
    return {"distance": least, "moved": moved, "figures": rows, "words": _in_words(rows, least, moved["control"])}


def _towards(policy: Policy, share: float) -> Network:
    """The start's output, and this share of the policy's change of it."""

    def network(low: torch.Tensor) -> torch.Tensor:
        start = policy.start(low).float()
        return start + share * (policy(low).float() - start)

    return network


def _in_words(rows: list[dict[str, Any]], distance: float, control: float) -> str:
    if control < STILL:
        return (
            "The anchor alone moved nothing, since it pulls to the start (anchor.reference > 0 pulls to the reference): there is "
            "no control to compare with."
        )
    if not distance:
        return "The best network is the untuned one: by full-reference figures tuning was worth nothing."
    better = [row["figure"] for row in rows if row["low"] > 0]
    worse = [row["figure"] for row in rows if row["high"] < 0]
    said = f"helped {', '.join(better)}" if better else "surely helped no full-reference figure"
    said += f" and made {', '.join(worse)} worse" if worse else ""
    return f"Against a control trained with the anchor alone, both {distance:.2f} 8-bit steps (RMS) off the start, tuning {said}."
