"""The policy that a recipe tunes: opened, checked against the algorithm, and given what may learn."""

from collections.abc import Sequence

from fgr.errors import UserError
from fgr.recipe.mistakes import members
from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.recipe.rlhf import RlhfRecipe
from fgr.recipe.sampling import Sampling
from fgr.rlhf.denoisers import UNFIT
from fgr.rlhf.diffusion_policy import DiffusionPolicy, open_diffusion_policy
from fgr.rlhf.policy import Policy, expect_license, open_policy
from fgr.rlhf.policy import checkpoint_blocks as recompute_blocks
from fgr.sr import parse_name
from fgr.sr.zoo import DIFFUSION, ZOO

TunedPolicy = Policy | DiffusionPolicy
ALGORITHMS = members(RlhfRecipe.model_fields["algorithm"])  # their settings, by name


def open_tuned(name: str, algorithm: str, accepted: Sequence[str], sampling: Sampling) -> TunedPolicy:
    """The policy `name`. UserError as `open_policy` and `open_diffusion_policy` say, and for an algorithm of the other kind."""
    spec = parse_name(name)
    if spec.settings or spec.lora:
        raise UserError(f"'{name}' cannot be tuned with the settings or low-rank changes in its name.", f"Write {spec.base}.")
    if spec.kind != "diffusion":
        if ALGORITHMS[algorithm].tunes != "networks":
            raise UserError(
                f"{algorithm} tunes diffusion models, and '{name}' is not one.",
                f"Use algorithm.name={' or '.join(_that_tune('networks'))}, or name one of: {', '.join(DIFFUSION)}.",
            )
        return open_policy(name, accepted)
    if ALGORITHMS[algorithm].tunes == "networks":
        raise UserError(
            f"'{name}' is a diffusion model: back-propagation through its whole sampling does not fit any memory.",
            f"Use algorithm.name={' or '.join(_that_tune('diffusion models'))}.",
        )
    why = UNFIT.get(name, {}).get(algorithm)
    if why is not None:
        fitting = [one for one in _that_tune("diffusion models") if one not in UNFIT[name]]
        raise UserError(f"{algorithm} does not fit '{name}': {why}.", f"Use algorithm.name={' or '.join(fitting)}.")
    expect_license(name, ZOO[name].license, accepted)
    policy = open_diffusion_policy(name, sampling)
    if algorithm == "grpo" and policy.steps < 2:
        raise UserError(
            f"'{name}' samples in {policy.steps} step: none of it is stochastic, which grpo needs.",
            "Use refl or draft, or sampling.steps.",
        )
    return policy


def _that_tune(policies: str) -> list[str]:
    return [name for name, settings in ALGORITHMS.items() if settings.tunes == policies]


def make_trainable(policy: TunedPolicy, settings: PolicySettings) -> None:
    """Let a policy learn as the recipe's `policy` says. UserError for what it cannot do."""
    if isinstance(policy, DiffusionPolicy):
        if settings.train != "lora":
            raise UserError(f"Of '{policy.name}' only low-rank changes are tuned.", "Set policy.train=lora.")
        policy.recompute = settings.checkpoint_blocks
        policy.learn_lora(settings.lora_rank, settings.lora_alpha)
        return
    if settings.checkpoint_blocks and not recompute_blocks(policy.network):
        raise UserError(f"{policy.name} has no repeated blocks to recompute.", "Set policy.checkpoint_blocks=false.")
    if settings.train == "lora":
        policy.learn_lora(settings.lora_rank, settings.lora_alpha)
    else:
        policy.learn_all()
