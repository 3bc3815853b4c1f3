"""Which policy an algorithm tunes, and what of it learns."""

import pytest

from fgr.errors import UserError
from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.recipe.sampling import Sampling
from fgr.rlhf.diffusion_policy import open_diffusion_policy
from fgr.rlhf.trainable import make_trainable, open_tuned

MODELS = ("ldm-sr", "osediff")
FEW = Sampling(steps=3)


@pytest.mark.parametrize(
    ("name", "algorithm", "said"),
    [
        ("ldm-sr", "direct", "through its whole sampling"),
        ("bicubic", "grpo", "grpo tunes diffusion models, and 'bicubic' is not one"),
        ("osediff", "draft-lv", r"begins with the input's latent, never with noise.\n.*algorithm.name=refl or draft\."),
        ("osediff", "grpo", "it needs stochastic steps, and OSEDiff has one step, which is not"),
        ("osediff", "dpo", "it compares errors at random times under noise, and OSEDiff is only ever asked at one"),
        ("seesr", "refl", "'seesr' cannot be tuned: its sampling has not been taken apart"),
    ],
)
def test_an_algorithm_of_the_other_kind_of_policy_is_refused(folder, name, algorithm, said):
    with pytest.raises(UserError, match=said):
        open_tuned(name, algorithm, (), FEW)


def test_sampling_in_one_step_leaves_grpo_nothing_to_draw(folder):
    with pytest.raises(UserError, match="samples in 1 step: none of it is stochastic"):
        open_tuned("ldm-sr", "grpo", (), Sampling(steps=1))


def test_only_low_rank_changes_of_a_diffusion_model_are_tuned(folder):
    with pytest.raises(UserError, match="only low-rank changes are tuned"):
        make_trainable(open_diffusion_policy("ldm-sr", FEW), PolicySettings(train="all"))
