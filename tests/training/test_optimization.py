from types import SimpleNamespace

import pytest
import torch

from fgr.training import optimization
from fgr.training.optimization import Optimization


def slope(clip=100.0, accumulate=1):
    """An optimisation of one weight w = 1 by plain gradient descent at the rate 0.1, and its module."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    return Optimization(model, torch.optim.SGD(model.parameters(), lr=0.1), clip, accumulate), model


def test_a_step_follows_the_mean_gradient_of_its_batches():
    """Losses 2w and 4w: the gradient is their mean, 3, and w goes from 1 to 0.7."""
    steps, model = slope(accumulate=2)

    def forward(factor):
        loss = factor * model.weight.sum()
        steps.backward(loss)
        return {"loss": loss.detach(), "factor": factor}

    figures = steps.accumulate(iter([2.0, 4.0, 8.0]), forward)
    assert {name: float(value) for name, value in figures.items()} == {"loss": 3.0, "factor": 3.0}
    assert steps.clip_gradients() == pytest.approx(3)
    steps.step()
    assert model.weight.item() == pytest.approx(0.7)
    assert model.weight.grad is None


def test_gradients_are_clipped_and_the_rate_scaled():
    """A gradient of 8 clipped to 2, at half of the rate 0.1: w goes from 1 to 0.9."""
    steps, model = slope(clip=2.0)
    steps.set_rate(0.5)
    steps.backward(8 * model.weight.sum())
    assert steps.clip_gradients() == pytest.approx(8)
    steps.step()
    assert model.weight.item() == pytest.approx(0.9, abs=1e-4)
    steps.set_rate(1.0)
    assert steps.optimizer.param_groups[0]["lr"] == 0.1


def test_a_step_that_is_left_out_changes_nothing():
    steps, model = slope()
    steps.backward(8 * model.weight.sum())
    steps.skip()
    assert model.weight.item() == 1
    assert model.weight.grad is None


def test_the_rate_rises_and_falls():
    rates = [optimization.warmup_cosine(step, 20, 0.25) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == 1
    assert rates[12] == pytest.approx(0.5, abs=0.06)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert [optimization.warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert optimization.warmup(0, 0) == 1


@pytest.mark.parametrize(
    ("value", "step", "says"),
    [
        (4.9, 31, ""), (5.1, 31, "exploded"), (5.1, 20, ""), (float("nan"), 1, "is not a number"),
        (float("inf"), 31, "is not a number"),
    ],
)  # fmt: skip
def test_what_explodes_is_told_once_a_mean_is_known(value, step, says):
    assert optimization.divergence(value, 0.1, 50.0, step) == says


def test_the_running_mean_begins_with_the_first_value():
    assert optimization.running_mean(0.0, 4.0) == 4
    assert optimization.running_mean(4.0, 24.0) == pytest.approx(5)


def test_the_average_follows_the_weights():
    """In step 1 the decay is 2/11, whatever was asked for: 0 moves to 9/11 of 11; later it is 0.5."""
    average = {"weight": torch.zeros(2), "count": torch.tensor(0)}
    current = {"weight": torch.full((2,), 11.0), "count": torch.tensor(3)}
    optimization.update_ema(average, current, 0.5, 1)
    assert average["weight"].tolist() == pytest.approx([9, 9])
    assert average["count"] == 3
    optimization.update_ema(average, current, 0.5, 100)
    assert average["weight"].tolist() == pytest.approx([10, 10])


def test_a_checkpoint_keeps_the_loss_scale_of_fp16():
    scaled = [torch.amp.GradScaler("cpu", init_scale=start, growth_interval=1) for start in (8.0, 1024.0)]
    runs = [slope()[0] for _ in scaled]
    for run, scaler in zip(runs, scaled, strict=True):
        run.accelerator = SimpleNamespace(scaler=scaler)
        scaler.scale(torch.ones(()))
    runs[1].load(runs[0].state())
    assert scaled[1].get_scale() == 8.0
    runs[0].load({"optimizer": runs[0].optimizer.state_dict()})  # of an earlier version
    assert scaled[0].get_scale() == 8.0
    assert slope()[0].state()["scaler"] is None
