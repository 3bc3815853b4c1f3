"""Tuned against a control with the anchor alone."""

from contextlib import contextmanager

import cv2
import pytest
import torch
from skimage import data as photographs
from small_rlhf import small
from torchvision.transforms.functional import gaussian_blur
from torchvision_double import put_mobilenet

from fgr import package_files
from fgr.images.arrays import as_images, as_tensor
from fgr.metrics.registry import open_metric
from fgr.recipe.rlhf import Audit
from fgr.rlhf.auditor import Auditor, Baseline
from fgr.rlhf.held_out import Crops, HeldOutEvaluation, HeldOutMetrics
from fgr.rlhf.run import tune
from fgr.rlhf.usefulness import compared, control_recipe

MOBILENET = "timm:mobilenetv2_100"
SHORT = ("curriculum.schedule=none", "training.steps=4", "audit.control=true", "audit.sheet=0", "audit.images=2")


def test_the_control_is_the_recipe_without_the_reward():
    recipe = small(*SHORT)
    control = control_recipe(recipe)
    assert (control.reward.ratio, control.audit.control, control.curriculum.schedule) == (1e-20, False, "none")
    assert (control.anchor, control.training, control.data) == (recipe.anchor, recipe.training, recipe.data)


def test_a_run_is_compared_with_its_control_at_equal_distance(sources, tmp_path):
    found = tune(small(*SHORT, "anchor.reference=2"), *sources, tmp_path / "run", "cpu")["control"]
    assert [row["figure"] for row in found["figures"]] == ["ssim"]
    row = found["figures"][0]
    assert row["difference"] == pytest.approx(row["tuned"] - row["control"])
    assert found["distance"] == pytest.approx(min(found["moved"].values()))
    assert (tmp_path / "run" / "control" / "last.safetensors").is_file()
    assert "8-bit steps (RMS) off the start, tuning" in found["words"] or not min(found["moved"].values())


def test_an_anchor_that_pulls_nowhere_is_no_control(sources, tmp_path):
    found = tune(small(*SHORT, "anchor={start: 1.0, consistency: 0}"), *sources, tmp_path / "run", "cpu")
    assert "pulls to the start" in found["control"]["words"]


def test_encoders_whose_weights_are_here_are_shown_without_a_vote(sources, tmp_path, monkeypatch, capsys):
    put_mobilenet(monkeypatch, tmp_path / "weights")
    found = tune(small(*SHORT, f"audit.control_features=['{MOBILENET}']"), *sources, tmp_path / "run", "cpu")
    assert [row["figure"] for row in found["control"]["figures"]] == ["ssim", MOBILENET]
    assert {row["figure"]: row["role"] for row in found["closures"]}[MOBILENET] == "shown"
    assert not {row["metric"]: row["counts"] for row in found["metrics"]}[MOBILENET]
    assert "not measured by" not in capsys.readouterr().err


def test_encoders_whose_weights_are_not_here_are_left_out_and_said_once(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(package_files, "installed", lambda place: None)
    found = tune(small(*SHORT, f"audit.control_features=['{MOBILENET}']"), *sources, tmp_path / "run", "cpu")["control"]
    assert [row["figure"] for row in found["figures"]] == ["ssim"]
    said = f"the control is not measured by {MOBILENET}, whose weights are not here: fgr models {MOBILENET} --fetch brings them"
    assert capsys.readouterr().err.count(said) == 1


@pytest.fixture(params=["random weights", "its own weights"])
def mobilenet(request, tmp_path, monkeypatch):
    """MobileNetV2's weights on this machine."""
    if request.param == "random weights":
        put_mobilenet(monkeypatch, tmp_path / "weights")
    else:
        request.getfixturevalue("packaged_weights")(MOBILENET)


class Towards:
    """A policy that knows the references: with the weights {"share": s} it goes that share of the way to them from the enlarged
    input, or blurs that by the share −s."""

    def __init__(self, pairs):
        self.references = {low.tobytes(): reference for low, reference in pairs}
        self.share = 0.0

    def start(self, low):
        return torch.nn.functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)

    def __call__(self, low):
        goal = as_tensor([self.references[image.tobytes()] for image in as_images(low)])
        goal = goal if self.share > 0 else gaussian_blur(self.start(low), 9, 3.0)
        return self.start(low) + abs(self.share) * (goal - self.start(low))

    @contextmanager
    def holding(self, weights):
        kept, self.share = self.share, weights["share"]
        yield
        self.share = kept


def pair(image):
    reference = image[40:168, 60:188].copy()
    return cv2.resize(reference, (32, 32), interpolation=cv2.INTER_AREA), reference


@pytest.mark.usefixtures("mobilenet")
def test_a_network_nearer_its_references_is_ahead_by_every_figure_and_one_farther_off_behind():
    names = ("astronaut", "chelsea", "coffee", "rocket")
    pairs = [pair(getattr(photographs, name)()) for name in names]
    metrics = HeldOutMetrics([open_metric("ssim"), open_metric(MOBILENET)], shown=[MOBILENET])
    evaluation = HeldOutEvaluation(Towards(pairs), metrics, [], Crops(pairs, names), batch=4)
    auditor = Auditor(evaluation, Audit(control=True), torch.device("cpu"))
    start = evaluation.measure(evaluation.policy.start, auditor.device, []).values
    baseline = Baseline(start, evaluation.references(auditor.device, []))
    near, far = {"share": torch.tensor(0.6)}, {"share": torch.tensor(-1.0)}
    found = {row["figure"]: row for row in compared(evaluation.policy, auditor, baseline, near, far)["figures"]}
    assert list(found) == ["ssim", MOBILENET]
    for row in found.values():
        assert row["tuned"] > 0.05
        assert row["control"] < 0
        assert row["low"] > 0
    other = {row["figure"]: row for row in compared(evaluation.policy, auditor, baseline, far, near)["figures"]}
    assert all(row["high"] < 0 for row in other.values())
    assert found[MOBILENET]["difference"] == pytest.approx(-other[MOBILENET]["difference"], rel=1e-3)
