"""Held-out metrics and their evaluation, on a toy policy: enlargement, brightened by what it learned."""

import numpy as np
import pytest
import torch
from PIL import Image

from fgr.errors import UserError
from fgr.metrics.registry import Metric
from fgr.rlhf.changes import MetricRole
from fgr.rlhf.held_out import Crops, HeldOutEvaluation, HeldOutMetrics, fit_naturalness, open_held_out
from fgr.rlhf.inputs import Batch, open_inputs


def enlarged(low):
    return torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)


class Brightener:
    """A policy whose start enlarges; called, it also adds 0.1."""

    def start(self, low):
        return enlarged(low)

    def __call__(self, low):
        return (enlarged(low) + 0.1).clamp(0, 1)


class Brightness:
    """A reward, and a reward model: score and map."""

    def value(self, image):
        return image.mean((1, 2, 3))

    def __call__(self, image):
        return self.value(image), image.mean(1, keepdim=True)


def pairs(count=3, side=16):
    rng = np.random.default_rng(0)
    reference = np.full((4 * side, 4 * side, 3), 110, np.uint8)
    return [(rng.integers(60, 160, (side, side, 3), np.uint8), reference) for _ in range(count)]


def crops(count=3):
    return Crops(pairs(count), [str(number) for number in range(count)])


def named(name, lower=False, reference=False, value=1.0):
    return Metric(name, reference, lower, False, "here", lambda image, target=None: torch.full((len(image),), value))


def test_every_metric_has_a_role_in_the_audit():
    metrics = [named("psnr", reference=True), named("ms-ssim", reference=True), named("lpips", True, True)]
    metrics += [named("niqe", lower=True), named("clipiqa")]
    models = {"rm0": (Brightness(), True), "last_stage": (Brightness(), False)}
    roles = HeldOutMetrics(metrics, models).roles
    assert roles == {
        "psnr": MetricRole("fidelity", 1), "ms_ssim": MetricRole("fidelity", 1), "lpips": MetricRole("fidelity", -1),
        "consistency": MetricRole("consistency", 1), "niqe": MetricRole("naturalness", -1), "clipiqa": MetricRole("quality", 1),
        "rm0_score": MetricRole("rm0", 1), "rm0_severity": MetricRole("rm0", -1),
        "last_stage_score": MetricRole("last_stage", 1, False), "last_stage_severity": MetricRole("last_stage", -1, False),
        "distance": MetricRole("distance", -1, False),
    }  # fmt: skip
    assert list(roles)[:4] == ["psnr", "ms_ssim", "lpips", "consistency"]
    judged = HeldOutMetrics(metrics, models, judges={"judge_0": Brightness()}).roles
    assert judged["judge_0"] == MetricRole("judge", 1, False)
    assert "psnr" not in HeldOutMetrics(metrics, models, referenced=False).roles
    assert HeldOutMetrics(metrics, models, shown=["lpips"]).roles["lpips"] == MetricRole("fidelity", -1, False)


def test_figures_by_hand():
    """The output is 0.1 above its start and 0.2 below its reference; a map's severity is the mean of its worst hundredth."""
    low = torch.full((2, 3, 16, 16), 0.4)
    output, start, reference = (torch.full((2, 3, 64, 64), value) for value in (0.5, 0.4, 0.7))
    output[..., :8, :8] = 1.0  # 64 of 4096 places, more than a hundredth
    metrics = HeldOutMetrics(open_held_out((), "cpu"), {"rm0": (Brightness(), True)})
    found = metrics.measure(output, Batch(low, reference), start)
    assert found.keys() == {"psnr", "ssim", "ms_ssim", "consistency", "distance", "rm0_score", "rm0_severity"}
    assert all(values.shape == (2,) and values.dtype == np.float64 for values in found.values())
    share = 64 / 4096
    assert found["psnr"][0] == pytest.approx(-10 * np.log10((1 - share) * 0.2**2 + share * 0.3**2), rel=1e-4)
    assert found["distance"][0] == pytest.approx(255 * np.sqrt((1 - share) * 0.1**2 + share * 0.6**2), rel=1e-4)
    assert found["rm0_severity"][0] == pytest.approx(1.0)
    same = metrics.measure(reference, Batch(low, reference), start)
    assert same["psnr"].tolist() == [100, 100]  # identical images have infinitely many decibels
    assert "psnr" not in metrics.measure(output, Batch(low, None), start)


def test_an_evaluation_is_the_same_in_any_batch_and_returns_the_first_outputs():
    metrics = HeldOutMetrics(open_held_out((), "cpu"))
    whole, halves = (HeldOutEvaluation(Brightener(), metrics, [Brightness()], crops(), batch) for batch in (3, 2))
    first, second = (one.measure(Brightener(), torch.device("cpu"), [0], keep=2) for one in (whole, halves))
    assert first.outputs.shape == second.outputs.shape == (2, 3, 64, 64)
    for name, values in first.values.items():
        np.testing.assert_allclose(values, second.values[name], rtol=1e-5)
    started = whole.start_rewards(torch.device("cpu"), [0])
    assert started.keys() == {"reward_0"}
    assert (first.values["reward_0"] > started["reward_0"]).all()
    assert torch.equal(whole.start_outputs(pairs(1), torch.device("cpu")), halves.start_outputs(pairs(1), torch.device("cpu")))


def test_the_untuned_network_is_asked_once_for_each_crop_however_often_it_is_compared_with():
    class Counted(Brightener):
        asked = 0

        def start(self, low):
            self.asked += len(low)
            return super().start(low)

    policy = Counted()
    evaluation = HeldOutEvaluation(policy, HeldOutMetrics(open_held_out((), "cpu")), [Brightness()], crops(), 2)
    first, second = (evaluation.measure(policy, torch.device("cpu"), [0]).values["distance"] for _ in range(2))
    grey = np.full((64, 64, 3), 110, np.uint8)
    evaluation.changed([grey, grey], [2, 0], torch.device("cpu"), [])  # planted defects are compared with it too
    assert policy.asked == 3
    np.testing.assert_array_equal(first, second)
    assert first.mean() > 20


def test_references_and_changed_images_are_measured_in_place_of_outputs():
    metrics = HeldOutMetrics(open_held_out((), "cpu"), judges={"judge_0": Brightness()})
    evaluation = HeldOutEvaluation(Brightener(), metrics, [Brightness()], crops(), 2)
    found = evaluation.references(torch.device("cpu"), [0])
    assert found["ssim"] == pytest.approx(1, abs=1e-3)
    assert found["reward_0"] == pytest.approx(110 / 255)
    assert found["judge_0"] == pytest.approx(110 / 255)
    dark = np.zeros((64, 64, 3), np.uint8)
    changed = evaluation.changed([dark, dark + 255], [2, 0], torch.device("cpu"), [0])
    assert changed["reward_0"].tolist() == [0, 1]
    folder = HeldOutEvaluation(Brightener(), HeldOutMetrics([], referenced=False), [Brightness()], crops(), 2)
    assert folder.references(torch.device("cpu"), [0]) == {}


def test_outputs_are_rounded_as_they_would_be_saved():
    metrics = HeldOutMetrics([named("clipiqa")])
    measured = HeldOutEvaluation(Brightener(), metrics, [], crops(), 2).measure(Brightener(), torch.device("cpu"), [], keep=3)
    assert torch.equal((measured.outputs * 255).round(), (measured.outputs * 255).round(decimals=3))


def test_the_first_crops_are_of_as_many_photographs_as_there_are():
    found = Crops(pairs(5), ["a", "a", "b", "a", "c"])
    assert found.first_of_each(3) == [0, 2, 4]
    assert found.first_of_each(9) == [0, 2, 4, 1, 3]


def test_figures_that_are_not_finite_end_the_run_with_a_sentence():
    broken = HeldOutMetrics([named("clipiqa", value=float("nan"))])
    with pytest.raises(UserError, match=r"clipiqa are not finite.*\n.*training\.lr"):
        HeldOutEvaluation(Brightener(), broken, [], crops(), 2).measure(Brightener(), torch.device("cpu"), [])


def test_naturalness_is_fitted_on_the_references_of_a_dataset_alone(tiny, tmp_path):
    metric = fit_naturalness(open_inputs(str(tiny), "train", 4), 32)
    assert metric.name == "niqe"
    assert metric.measure(torch.rand(2, 3, 64, 64)).shape == (2,)
    with pytest.raises(UserError, match=r"cannot be fitted.*\n.*audit\.patch"):
        fit_naturalness(open_inputs(str(tiny), "train", 4), 128)
    for number in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    assert fit_naturalness(open_inputs(str(tmp_path), "train", 4), 32) is None
