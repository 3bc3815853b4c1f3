"""Rewards: pooling by hand, z-units, gradients, the worst case nearby."""

import pytest
import torch

from fgr.errors import UserError
from fgr.recipe.rlhf import Reward as RewardSettings
from fgr.reward.model import FinPercepRM
from fgr.reward.randomize import Randomized
from fgr.rlhf import trained_reward as rewards
from fgr.rlhf.trained_reward import Reward

MAP = torch.tensor([[0.0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.6, 0.7]]).view(1, 1, 2, 4)


def test_poolings_by_hand():
    assert float(rewards.top_q(MAP, 0.25)) == pytest.approx(0.65)
    assert float(rewards.top_q(MAP, 0.01)) == pytest.approx(0.7)
    assert float(rewards.top_q(MAP, 1.0)) == pytest.approx(0.35)
    assert float(rewards.hard_max(MAP)) == pytest.approx(0.7)
    assert float(rewards.p_norm(MAP, 2.0)) == pytest.approx((1.4 / 8) ** 0.5, abs=1e-4)
    assert float(rewards.p_norm(MAP, 200.0)) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(("name", "share"), [("top-q", 0.25), ("max", 1 / 64)])
def test_the_gradient_reaches_the_share_of_pixels_that_is_pooled(name, share):
    map_ = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    rewards.MAXIMA[name](0.25, 8.0)(map_).sum().backward()
    assert float((map_.grad != 0).float().mean()) == pytest.approx(share)


def brightness(image: torch.Tensor) -> torch.Tensor:
    return image.mean((1, 2, 3))


def grey(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()


def simple(weight: float = 1.0, bound: float = 0.0) -> Reward:
    found = Reward("brightness", lambda image: [brightness(image)], {"brightness": weight}, bound)
    found.calibrate([grey(0.2, 0.4), grey(0.6, 0.8)])
    return found


def test_terms_have_mean_0_and_deviation_1_on_the_reference_set():
    found = simple(weight=2.0)
    z = found.z(grey(0.2, 0.4, 0.6, 0.8))
    assert float(z.mean()) == pytest.approx(0, abs=1e-6)
    assert float(z.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(found.value(grey(0.8)), 2 * z[0, 3:])


def test_the_gradient_is_that_of_the_mean_reward_and_dies_at_the_bound():
    value = simple().gradient(grey(0.5, 0.5))
    sd = 0.05**0.5
    assert torch.allclose(value[2], torch.full_like(value[2], 1 / (sd * 48 * 2)), rtol=1e-4)
    assert float(simple(bound=1.0).gradient(grey(5.0))[2].abs().max()) < 1e-6


def test_a_term_that_does_not_vary_or_is_no_number_is_refused_by_name():
    flat = Reward("RM_1", lambda image: [brightness(image), brightness(image) * 0], {"score": 1.0, "clean": 1.0})
    with pytest.raises(UserError, match=r"'clean' of RM_1 is the same for every image"):
        flat.calibrate([grey(0.2, 0.4)])
    broken = Reward("RM_1", lambda image: [brightness(image) * float("nan")], {"score": 1.0})
    with pytest.raises(UserError, match="no numbers"):
        broken.calibrate([grey(0.2, 0.4)])


@pytest.fixture(scope="module")
def stages() -> list[FinPercepRM]:
    torch.manual_seed(0)
    models = [FinPercepRM(stage=number, stages=2).eval().requires_grad_(False) for number in range(3)]
    for model in models:
        torch.nn.init.normal_(model.head[-1].weight)
        model.set_map_mean(0.5)
    for level in (level for model in models[1:] for level in model.decoder.levels):
        torch.nn.init.normal_(level.out.weight, std=0.1)  # they begin at 0: untrained maps do not vary
    return models


def test_a_stages_reward_is_score_and_worst_of_the_map_and_rm_0_has_no_map(stages):
    image = torch.rand(2, 3, 32, 32)
    first = rewards.stage_reward(stages[0], RewardSettings())
    last = rewards.stage_reward(stages[2], RewardSettings(score=2.0, map=0.5, q=0.1))
    assert (first.terms, last.terms) == (["score"], ["score", "clean"])
    assert last.weights.tolist() == [2.0, 0.5]
    score, map_ = stages[2](image)
    found = last.raw(image)
    assert torch.equal(found[0], score)
    assert torch.equal(found[1], 1 - rewards.top_q(map_, 0.1))
    with pytest.raises(UserError, match="RM_0 has no map"):
        rewards.stage_reward(stages[0], RewardSettings(score=0.0))


def test_draws_judge_the_mean_over_randomised_copies(stages):
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    drawn = rewards.stage_reward(stages[2], RewardSettings(draws=2, q=0.1))
    score, map_ = Randomized(stages[2], 2)(image)
    assert torch.equal(drawn.raw(image)[0], score)
    assert torch.equal(drawn.raw(image)[1], 1 - rewards.top_q(map_, 0.1))
    assert not torch.equal(score, stages[2](image)[0])
    drawn.calibrate([image])
    assert drawn.gradient(image)[2].abs().min(1).values.max() > 0
    plain = rewards.plain_reward(RewardSettings(plain=("rm-stage:2",), draws=2), stages, torch.device("cpu"))
    assert torch.equal(plain.raw(image)[0], score)
    first = rewards.stage_reward(stages[0], RewardSettings(draws=2))
    assert torch.equal(first.raw(image)[0], Randomized(stages[0], 2)(image)[0])


def test_plain_rewards_are_summed_and_unknown_stages_refused(stages):
    image = torch.rand(2, 3, 32, 32)
    both = rewards.plain_reward(RewardSettings(plain=("rm-stage:0", "rm-stage:1")), stages, torch.device("cpu"))
    assert [float(value[0]) for value in both.raw(image)] == [float(stage(image)[0][0]) for stage in stages[:2]]
    with pytest.raises(UserError, match=r"0 … 2; there is no stage 3"):
        rewards.plain_reward(RewardSettings(plain=("rm-stage:3",)), stages, torch.device("cpu"))


def test_the_reward_is_differentiable_to_every_pixel_of_the_image(stages):
    found = rewards.stage_reward(stages[2], RewardSettings())
    found.calibrate([torch.rand(8, 3, 32, 32) * torch.rand(8, 1, 1, 1)])
    gradient = found.gradient(torch.rand(1, 3, 32, 32))[2]
    assert torch.isfinite(gradient).all()
    assert float((gradient != 0).float().mean()) > 0.95


def test_calibration_survives_a_round_trip():
    found = simple()
    found.weight = 0.3
    other = Reward("brightness", found.raw, {"brightness": 1.0})
    other.load(found.state())
    assert torch.equal(other.value(grey(0.7)), found.value(grey(0.7)))
    assert other.weight == 0.3


def test_the_step_down_the_surrogate_is_a_step_up_the_reward():
    output = torch.zeros(1, 3, 2, 2, requires_grad=True)
    gradient = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    rewards.surrogate(output, gradient).backward()
    assert torch.equal(output.grad, -gradient)


def test_a_hinge_ends_the_gradient_at_a_value_or_at_the_references_own_reward():
    found = simple()
    found.weight = 1.0
    output, reference = grey(0.3, 0.6), grey(0.5, 0.5)
    gradient, figures = rewards.reward_gradient([found], output, 0, 1.0, "reference", reference)
    assert float(gradient[0].abs().min()) > 0 == float(gradient[1].abs().max())
    assert figures["at_hinge"] == 0.5
    above = float(found.value(grey(0.6))) + 0.1
    assert float(rewards.reward_gradient([found], output, 0, 1.0, above)[0][1].abs().min()) > 0
    with pytest.raises(ValueError, match="no reference"):
        rewards.reward_gradient([found], output, 0, 1.0, "reference")


def test_a_fade_goes_from_the_old_gradient_to_the_new():
    old, new = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    assert rewards.faded(old, new, 0.0).tolist() == [2.0, 0.0]
    assert rewards.faded(old, new, 0.25).tolist() == [1.5, 1.0]
    assert rewards.faded(old, new, 1.0).tolist() == [0.0, 4.0]


def test_a_bound_levels_off_and_zero_is_none():
    value = torch.tensor([0.0, 0.01, 100.0, -100.0])
    assert rewards.bounded(value, 3.0).tolist() == pytest.approx([0.0, 0.01, 3.0, -3.0], abs=1e-6)
    assert torch.equal(rewards.bounded(value, 0.0), value)
