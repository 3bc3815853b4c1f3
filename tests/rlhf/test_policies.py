"""Opening the policy that a run tunes: what cannot be tuned, by which algorithm, under which licence."""

from dataclasses import replace

import pytest

from fgr.errors import UserError
from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.recipe.sampling import Sampling
from fgr.rlhf.policies import open_policy
from fgr.sr import license_of, parse_name, weights

MODELS = ("ldm-sr", "osediff")
FEW = Sampling(steps=3)


@pytest.mark.parametrize(
    ("name", "algorithm", "said"),
    [
        ("ldm-sr", "direct", "back-propagation through all its sampling steps"),
        ("bicubic", "grpo", "grpo tunes diffusion models, and 'bicubic' is not one"),
        ("osediff", "draft-lv", r"begins with the input's latent, never with noise.\n.*algorithm.name=refl or draft\."),
        ("osediff", "grpo", "it needs stochastic steps, and OSEDiff has one step, which is not"),
        ("osediff", "dpo", "it compares errors at random times under noise, and OSEDiff is only ever asked at one"),
        ("resshift", "refl", "'resshift' cannot be tuned yet"),
    ],
)
def test_an_algorithm_of_the_other_kind_of_policy_is_refused(folder, name, algorithm, said):
    with pytest.raises(UserError, match=said):
        open_policy(parse_name(name), algorithm, (), FEW)


def test_sampling_in_one_step_is_refused(folder):
    with pytest.raises(UserError, match="ldm-sr needs 2 steps or more"):
        open_policy(parse_name("ldm-sr"), "grpo", (), Sampling(steps=1))


def test_only_low_rank_changes_of_a_diffusion_model_are_tuned(folder):
    with pytest.raises(UserError, match="only low-rank changes can be tuned"):
        open_policy(parse_name("ldm-sr"), "refl", (), FEW).learn(PolicySettings(train="all"))


@pytest.mark.parametrize(
    ("name", "said"),
    [("bicubic", "nothing to tune"), ("folder:out", "nothing to tune"), ("realesrgn", "did you mean 'realesrgan'")],
)
def test_what_cannot_be_tuned_is_named(name, said):
    with pytest.raises(UserError, match=said):
        open_policy(parse_name(name))


def test_a_licence_that_limits_tuning_must_be_accepted_and_stays_with_the_tuned_network(network_files, monkeypatch, tmp_path):
    located = weights.locate
    monkeypatch.setattr(weights, "locate", lambda name: replace(located(name), license="S-Lab-1.0"))
    name = network_files["compact"]
    with pytest.raises(UserError, match=r"S-Lab-1\.0, which allows non-commercial use only: the tuned network would be so too"):
        open_policy(parse_name(name))
    policy = open_policy(parse_name(name), accepted=[name])
    assert policy.license == "S-Lab-1.0"
    policy.save(tmp_path / "best.safetensors")  # the tuned network is under it too
    assert license_of(f"spandrel:{tmp_path / 'best.safetensors'}") == "S-Lab-1.0"
    assert license_of(name) == "unknown"
