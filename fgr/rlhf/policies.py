"""Opening the policy that a run tunes; licences and algorithms that do not fit are refused."""

from collections.abc import Sequence

from fgr.errors import UserError
from fgr.licenses import terms_of
from fgr.recipe.mistakes import members
from fgr.recipe.rlhf import RlhfRecipe
from fgr.recipe.sampling import Sampling
from fgr.rlhf.diffusion_policy import TUNABLE, DiffusionPolicy
from fgr.rlhf.network_policy import NetworkPolicy
from fgr.rlhf.policy import Policy
from fgr.sr import ModelSpec, weights
from fgr.sr.network import build_descriptor
from fgr.sr.spec import WITHOUT_NETWORK
from fgr.sr.zoo import DIFFUSION

ALGORITHMS = members(RlhfRecipe.model_fields["algorithm"])  # their settings, by name


def open_policy(
    spec: ModelSpec, algorithm: str = "direct", accepted: Sequence[str] = (), sampling: Sampling | None = None
) -> Policy:
    """The SR model `spec` with nothing learning yet, on the CPU.

    `accepted` are the models whose licence is accepted, `sampling` is the recipe's, of diffusion models. UserError: nothing to
    tune (bicubic, folder:DIR), settings or low-rank changes in the name, weights absent or damaged, a licence that limits tuning
    or sharing and is not accepted, an algorithm that does not fit the model.
    """
    if spec.settings or spec.lora:
        raise UserError(
            f"'{spec.text}' cannot be tuned with the settings or low-rank changes in its name.", f"Write {spec.base}."
        )
    _expect_kind(spec, algorithm)
    if spec.kind == "diffusion":
        return _open_diffusion(spec, accepted, sampling or Sampling())
    found = weights.locate(spec)
    _expect_license(spec, found.license, accepted)
    return NetworkPolicy(spec.text, build_descriptor(spec.text, weights.load(found), None), found.digest, found.license)


def _open_diffusion(spec: ModelSpec, accepted: Sequence[str], sampling: Sampling) -> DiffusionPolicy:
    import torch

    from fgr.sr.diffusion import files
    from fgr.sr.diffusion.opening import open_model

    assert spec.release is not None
    _expect_license(spec, spec.release.license, accepted)
    model = open_model(spec.base, sampling, torch.device("cpu"))
    found = files.locate(spec.base, model.settings.get("base"))
    return DiffusionPolicy(spec.text, model, found.digest, found.license)


def _expect_kind(spec: ModelSpec, algorithm: str) -> None:
    """UserError for an algorithm of the other kind of model, or one that makes no sense of this model."""
    tuned = ALGORITHMS[algorithm].tunes
    if spec.kind != "diffusion":
        if tuned != "networks":
            raise UserError(
                f"{algorithm} tunes diffusion models, and '{spec.text}' is not one.",
                f"Use algorithm.name={' or '.join(_that_tune('networks'))}, or name one of: {', '.join(DIFFUSION)}.",
            )
        if spec.kind in WITHOUT_NETWORK:
            raise UserError(
                f"'{spec.text}' is not a network: there is nothing to tune.", "Name a network that `fgr models` lists."
            )
        return
    if tuned == "networks":
        raise UserError(
            f"'{spec.text}' is a diffusion model: back-propagation through all its sampling steps needs too much memory.",
            f"Use algorithm.name={' or '.join(_that_tune('diffusion models'))}.",
        )
    if spec.base not in TUNABLE:
        raise UserError(
            f"'{spec.text}' cannot be tuned yet.",
            f"Diffusion models that can be tuned: {', '.join(TUNABLE)}.",
        )
    unfit = TUNABLE[spec.base]
    if algorithm in unfit:
        fitting = [one for one in _that_tune("diffusion models") if one not in unfit]
        raise UserError(
            f"{algorithm} does not fit '{spec.text}': {unfit[algorithm]}.", f"Use algorithm.name={' or '.join(fitting)}."
        )


def _that_tune(kind: str) -> list[str]:
    return [name for name, settings in ALGORITHMS.items() if settings.tunes == kind]


def _expect_license(spec: ModelSpec, license: str, accepted: Sequence[str]) -> None:
    """UserError for a licence that limits what may be done with a tuned network, unless `accepted` names the model."""
    found = terms_of(license)
    if found.limit and spec.text not in accepted:
        raise UserError(
            f"The SR model '{spec.text}' is under {license}, which {found.limit}: the tuned network would be so too.",
            f"If you accept that, say so in the recipe: policy.accept_license='[{spec.text}]'.",
        )
