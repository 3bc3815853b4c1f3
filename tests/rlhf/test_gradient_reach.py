"""Networks that detach their layers in evaluation mode: tuned in the mode that learns, or refused."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toy_diffusion import ToyModel, toy

from fgr.errors import UserError
from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.rlhf.gradient_reach import choose_mode
from fgr.rlhf.policies import open_policy
from fgr.sr import parse_name

LOW = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def span(tmp_path_factory):
    """A small SPAN of random weights: in evaluation mode it runs merged, detached copies of its layers."""
    from spandrel.architectures.SPAN.__arch.span import SPAN

    torch.manual_seed(0)
    network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2, norm=False)
    file = tmp_path_factory.mktemp("span") / "span.safetensors"
    save_file({name: value.contiguous() for name, value in network.eval().state_dict().items()}, file)
    return f"spandrel:{file}"


@pytest.mark.parametrize("train", ["all", "lora"])
def test_span_learns_and_its_file_does_what_the_policy_does(span, tmp_path, train):
    policy = open_policy(parse_name(span))
    untuned = policy(LOW)
    policy.learn(PolicySettings(train=train, lora_rank=2, lora_alpha=4))
    assert torch.allclose(policy.start(LOW), untuned, atol=1e-4)
    assert not any("eval_conv" in name for name in policy.learned())
    before = {name: value.clone() for name, value in policy.learned().items()}
    for _ in range(2):
        optimizer = torch.optim.Adam(policy.learned().values(), lr=0.01)
        (1 - policy(LOW)).square().mean().backward()
        assert all(value.grad is not None for value in policy.learned().values())
        optimizer.step()
        optimizer.zero_grad()
    moved = [name for name, value in policy.learned().items() if not torch.equal(value, before[name])]
    assert len(moved) > 0.9 * len(before)
    policy.train()
    policy.save(tmp_path / "best.safetensors")
    again = open_policy(parse_name(f"spandrel:{tmp_path / 'best.safetensors'}"))
    assert torch.allclose(again(LOW), policy(LOW), atol=1e-4)
    assert not torch.allclose(again(LOW), untuned, atol=1e-3)


class Detaching(nn.Module):
    """Its second layer is used without a gradient, in every mode; its third not at all."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x):
        return nn.functional.conv2d(self.first(x), self.second.weight.detach(), self.second.bias)


def test_what_no_gradient_reaches_is_named():
    with pytest.raises(UserError, match=r"^x passes no gradient to 3 of the 6 tensors that would learn: second.weight, third"):
        choose_mode("x", Detaching(), lambda network, low: network(low))


def test_what_has_no_part_in_the_output_is_left_out():
    network = Detaching()
    network.second.weight.requires_grad_(False)
    assert choose_mode("x", network, lambda network, low: network(low)) == {"third.weight", "third.bias"}


class DetachingModel(ToyModel):
    """Its network's prediction carries no gradient."""

    def predict(self, latents, times, start):
        return super().predict(latents, times, start).detach()


def test_a_diffusion_model_whose_prediction_carries_no_gradient_is_refused():
    policy = toy(model=DetachingModel)
    before = {name: value.clone() for name, value in policy.learned().items()}
    with pytest.raises(UserError, match=r"^toy passes no gradient to 2 of the 2 tensors that would learn: .*lora_A"):
        policy.expect_gradients()
    assert all(torch.equal(value, before[name]) for name, value in policy.learned().items())
    policy = toy()
    policy.expect_gradients()
    assert not policy.left_out
    assert all(value.grad is None for value in policy.parameters())


def test_weights_that_are_not_finite_are_blamed_on_the_policy(span, tmp_path):
    from safetensors.torch import load_file

    state = load_file(parse_name(span).path)
    state["conv_1.sk.weight"].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"nan.safetensors' hold values that are not finite, in 1 of its tensors: conv_1\.sk"):
        open_policy(parse_name(f"spandrel:{tmp_path / 'nan.safetensors'}"))
