"""Algorithms by name, and the policies that they tune."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from fgr.errors import UserError
from fgr.recipe.sampling import Sampling
from fgr.rlhf import dpo, grpo, pathwise
from fgr.rlhf.climb import Algorithm, Climb
from fgr.rlhf.denoisers import UNFIT
from fgr.rlhf.diffusion_policy import DiffusionPolicy, open_diffusion_policy
from fgr.rlhf.objective import Anchor
from fgr.rlhf.policy import Policy, expect_license, open_policy
from fgr.rlhf.policy import checkpoint_blocks as recompute_blocks
from fgr.sr import parse_name
from fgr.sr.zoo import DIFFUSION, ZOO

Tuned = Policy | DiffusionPolicy
DIRECT = "direct"
PATHWISE = ("refl", "draft", "draft-lv")


def open_tuned(name: str, algorithm: str, accepted: Sequence[str], sampling: Sampling) -> Tuned:
    """The policy `name`. UserError as `open_policy` and `open_diffusion_policy` say, and for an algorithm of the other kind."""
    spec = parse_name(name)
    if spec.settings or spec.lora:
        raise UserError(f"'{name}' cannot be tuned with the settings or low-rank changes in its name.", f"Write {spec.base}.")
    if spec.kind != "diffusion":
        if algorithm != DIRECT:
            raise UserError(
                f"{algorithm} tunes diffusion models, and '{name}' is none.",
                f"Use algorithm.name={DIRECT}, or name one of: {', '.join(DIFFUSION)}.",
            )
        return open_policy(name, accepted)
    if algorithm == DIRECT:
        raise UserError(
            f"'{name}' is a diffusion model: back-propagation through its whole sampling does not fit any memory.",
            f"Use algorithm.name={', '.join(PATHWISE)}, grpo or dpo.",
        )
    why = UNFIT.get(name, {}).get(algorithm)
    if why is not None:
        fitting = [one for one in (*PATHWISE, "grpo", "dpo") if one not in UNFIT[name]]
        raise UserError(f"{algorithm} does not fit '{name}': {why}.", f"Use algorithm.name={' or '.join(fitting)}.")
    expect_license(name, ZOO[name].license, accepted)
    policy = open_diffusion_policy(name, sampling)
    if algorithm == "grpo" and policy.steps < 2:
        raise UserError(
            f"'{name}' samples in {policy.steps} step: none of it is stochastic, which grpo needs.",
            "Use refl or draft, or sampling.steps.",
        )
    return policy


def prepare(policy: Tuned, train: str, lora_rank: int, lora_alpha: int, checkpoint_blocks: bool) -> None:
    """Let a policy learn as the recipe's `policy` says. UserError for what it cannot do."""
    if isinstance(policy, DiffusionPolicy):
        if train != "lora":
            raise UserError(f"Of '{policy.name}' only low-rank changes are tuned.", "Set policy.train=lora.")
        policy.recompute = checkpoint_blocks
        policy.learn_lora(lora_rank, lora_alpha)
        return
    if checkpoint_blocks and not recompute_blocks(policy.network):
        raise UserError(f"{policy.name} has no repeated blocks to recompute.", "Set policy.checkpoint_blocks=false.")
    if train == "lora":
        policy.learn_lora(lora_rank, lora_alpha)
    else:
        policy.learn_all()


def open_algorithm(
    policy: Tuned, rewards: list[Any], knobs: Mapping[str, Any], seed: int, anchor: Anchor, perceptual: Any,
    autocast: Callable[[], Any], stages: Sequence[Any],
) -> Algorithm:  # fmt: skip
    """The algorithm that `knobs`, the recipe's `algorithm`, names; dense rewards take the maps of `stages`."""
    name = knobs["name"]
    if isinstance(policy, Policy):
        return Climb(policy, rewards, anchor, perceptual, autocast)
    if name in PATHWISE:
        return pathwise.Pathwise(policy, rewards, name, pathwise.Knobs(seed, **_own(knobs, pathwise.Knobs)), autocast)
    if name == "grpo":
        return grpo.Grpo(policy, rewards, grpo.Knobs(seed, **_own(knobs, grpo.Knobs)), _maps(stages, len(rewards)))
    return dpo.Dpo(policy, rewards, dpo.Knobs(seed, beta=knobs["dpo_beta"], **_own(knobs, dpo.Knobs, "beta")))


def _own(knobs: Mapping[str, Any], kind: Any, *without: str) -> dict[str, Any]:
    """What of the recipe's `algorithm` a dataclass of knobs has."""
    names = [field.name for field in fields(kind) if field.name not in ("seed", *without)]
    return {name: knobs[name] for name in names}


def _maps(stages: Sequence[Any], rewards: int) -> Callable[[int], grpo.Maps | None]:
    def of(stage: int) -> grpo.Maps | None:
        model = stages[stage] if rewards == len(stages) else stages[-1]  # plain rewards have no stages: the last one's map
        return (lambda images: model(images)[1]) if model.stage else None

    return of
