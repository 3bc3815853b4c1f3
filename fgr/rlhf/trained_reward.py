"""The trained reward: images in, a value each out, in z-units; and its gradient by the image.

R_k = λ1 · z(S) + λ2 · z(1 − max^(M)) of stage k of the reward model (FinPercep-RM, section 4.3). The paper leaves open what the
bar and max^ are: here both terms are standardised on references, composites and the untuned network's outputs, and max^ goes by
name.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from fgr.errors import UserError
from fgr.recipe.rlhf import Reward as RewardSettings
from fgr.recipe.rlhf import stage_named
from fgr.reward.randomize import Randomized

Raw = Callable[[torch.Tensor], list[torch.Tensor]]
Maximum = Callable[[torch.Tensor], torch.Tensor]
SMALLEST_SD = 1e-4


def top_q(map_: torch.Tensor, q: float) -> torch.Tensor:
    """Mean of the worst share `q` of each map's pixels, at least one: (B, 1, H, W) → (B,)."""
    values = map_.flatten(1)
    return values.topk(max(1, round(q * values.shape[1])), dim=1).values.mean(dim=1)


def p_norm(map_: torch.Tensor, p: float) -> torch.Tensor:
    """Generalised mean with exponent `p` of each map: (B, 1, H, W) → (B,)."""
    return map_.flatten(1).clamp_min(1e-6).pow(p).mean(dim=1).pow(1 / p)


def hard_max(map_: torch.Tensor) -> torch.Tensor:
    """The largest value of each map: (B, 1, H, W) → (B,). Its gradient touches one pixel."""
    return map_.flatten(1).amax(dim=1)


MAXIMA: dict[str, Callable[[float, float], Maximum]] = {
    "top-q": lambda q, p: lambda map_: top_q(map_, q),
    "p-norm": lambda q, p: lambda map_: p_norm(map_, p),
    "max": lambda q, p: hard_max,
}


class Reward:
    """A weighted sum of standardised terms; `calibrate` must come first.

    `bound` levels it off where its gradient is taken.
    """

    def __init__(self, name: str, raw: Raw, weights: dict[str, float], bound: float = 0.0) -> None:
        self.name, self.raw, self.bound = name, raw, bound
        self.terms = list(weights)
        self.weights = torch.tensor(list(weights.values()))
        self.mean, self.sd = torch.zeros(len(weights)), torch.ones(len(weights))
        self.weight = 0.0  # in the objective; set once, from output gradients

    @torch.no_grad()
    def calibrate(self, images: Iterable[torch.Tensor]) -> None:
        """Take mean and deviation of each term from a frozen reference set. UserError for a term that does not vary or is NaN."""
        values = torch.cat([torch.stack(self.raw(batch)).cpu().double() for batch in images], dim=1)
        self.mean, self.sd = values.mean(dim=1).float(), values.std(dim=1, correction=0).float()
        for name, row, sd in zip(self.terms, values, self.sd.tolist(), strict=True):
            if not torch.isfinite(row).all() or sd < SMALLEST_SD:
                what = "gives values that are no numbers" if not torch.isfinite(row).all() else "is the same for every image"
                raise UserError(
                    f"The reward's term '{name}' of {self.name} {what} (clean, composite and restored images were tried).",
                    "Check the reward model with `fgr evaluate`; train it longer or at a lower learning rate, "
                    "or set this term's weight to 0.",
                )

    def z(self, image: torch.Tensor) -> torch.Tensor:
        """Each term's standardised values, (terms, B)."""
        values = torch.stack([value.float() for value in self.raw(image)])
        return (values - self.mean.to(values.device)[:, None]) / self.sd.to(values.device)[:, None]

    def value(self, image: torch.Tensor) -> torch.Tensor:
        """The reward (B,), not bounded."""
        return (self.weights.to(image.device)[:, None] * self.z(image)).sum(0)

    def gradient(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Terms (terms, B) and reward (B,) of images (B, 3, H, W), and the gradient of their mean bounded reward by them."""
        leaf = image.detach().float().requires_grad_()
        terms = self.z(leaf)
        value = (self.weights.to(leaf.device)[:, None] * terms).sum(0)
        (gradient,) = torch.autograd.grad(bounded(value, self.bound).mean(), leaf)
        return terms.detach(), value.detach(), gradient

    def state(self) -> dict[str, Any]:
        """What calibration set, as JSON values."""
        return {"mean": self.mean.tolist(), "sd": self.sd.tolist(), "weight": self.weight}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what calibration set in another process."""
        self.mean, self.sd, self.weight = torch.tensor(state["mean"]), torch.tensor(state["sd"]), state["weight"]


def stage_reward(model: Any, settings: RewardSettings, q: float | None = None) -> Reward:
    """R_k of a FinPercepRM, `q` in place of the recipe's if given.

    RM_0 has no map: its score is the whole of it. UserError if nothing is left.
    """
    score, map_ = settings.score, settings.map
    judge = judged(model, settings.draws)
    if model.stage == 0:
        if not score:
            raise UserError("RM_0 has no map and reward.score is 0: the first stage has no reward.", "Set reward.score above 0.")
        return Reward("RM_0", lambda image: [judge(image)[0]], {"score": score}, settings.bound)
    maximum = MAXIMA[settings.maximum](settings.q if q is None else q, settings.p)

    def raw(image: torch.Tensor) -> list[torch.Tensor]:
        found, degradation_map = judge(image)
        return [value for value, weight in ((found, score), (1 - maximum(degradation_map), map_)) if weight]

    weights = {name: weight for name, weight in (("score", score), ("clean", map_)) if weight}
    return Reward(f"RM_{model.stage}", raw, weights, settings.bound)


def judged(model: Any, draws: int) -> Any:
    """The model, or with `draws` the mean of its outputs over randomised copies of an image."""
    return Randomized(model, draws) if draws else model


def plain_reward(settings: RewardSettings, stages: Sequence[Any], device: torch.device) -> Reward:
    """The sum of the rewards in `settings.plain`: `rm-stage:K` (the score of stage K), `clipiqa`, `pyiqa:NAME`.

    UserError: no such stage.
    """
    from fgr.metrics.registry import open_base

    scores: list[Callable[[torch.Tensor], torch.Tensor]] = []
    names = settings.plain
    for name in names:
        stage = stage_named(name)
        if stage is None:
            scores.append(open_base(name, device, differentiable=True))
        elif stage < len(stages):
            scores.append(_score_of(judged(stages[stage], settings.draws)))
        else:
            raise UserError(
                f"The reward model has the stages 0 … {len(stages) - 1}; there is no stage {stage}.", "Change reward.plain."
            )
    weights = dict.fromkeys(names, 1.0)
    return Reward(" + ".join(names), lambda image: [score(image) for score in scores], weights, settings.bound)


def reward_gradient(
    rewards: Sequence[Reward], output: torch.Tensor, stage: int, share: float, hinge: float | str | None = None,
    reference: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:  # fmt: skip
    """The weighted reward's gradient at `output` (B, 3, H, W), the stage before faded out by `share`; and figures for the log.

    Images whose reward has reached `hinge` have none: z-units, or `reference`, the reward of their own reference. ValueError if
    that is asked for and there is none.
    """
    reward = rewards[stage]
    terms, value, gradient = reward.gradient(output)
    gradient = reward.weight * gradient
    if share < 1:
        before = rewards[stage - 1]
        gradient = faded(before.weight * before.gradient(output)[2], gradient, share)
    if hinge is not None:
        reached = value >= _hinge(reward, hinge, reference)
        gradient = gradient * ~reached.view(-1, 1, 1, 1)
    figures = {"reward": float(value.mean()), "reward_std": float(value.std(correction=0))}
    figures |= {name: float(row.mean()) for name, row in zip(reward.terms, terms, strict=True)}
    figures["reward_gradient"] = gradient_norm(gradient)
    figures |= {"at_hinge": float(reached.float().mean())} if hinge is not None else {}
    figures["at_bound"] = float((value.abs() > reward.bound).float().mean()) if reward.bound else 0.0
    return gradient, figures


@torch.no_grad()
def _hinge(reward: Reward, hinge: float | str, reference: torch.Tensor | None) -> torch.Tensor | float:
    if not isinstance(hinge, str):
        return hinge
    if reference is None:
        raise ValueError("the hinge is the reference's reward, and there is no reference")
    return reward.value(reference)


def faded(old: torch.Tensor, new: torch.Tensor, share: float) -> torch.Tensor:
    """Cross-fade of two gradients, each already at its reward's weight: `old` at share 0, `new` at 1."""
    return (1 - share) * old + share * new


def bounded(value: torch.Tensor, bound: float) -> torch.Tensor:
    """`value` levelling off at ±bound (bound · tanh(value / bound)); 0 = as it is."""
    return bound * torch.tanh(value / bound) if bound else value


def surrogate(output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A scalar loss whose gradient by `output` is −`gradient`: a step down it is a step up the reward."""
    return -(output * gradient.detach()).sum()


def gradient_norm(gradient: torch.Tensor) -> float:
    """Euclidean norm of all values, in float64."""
    return float(gradient.double().norm())


def _score_of(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda image: model(image)[0]
