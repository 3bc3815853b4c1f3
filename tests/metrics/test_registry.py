import builtins
import sys
import types

import numpy as np
import pytest
import torch
from torchvision_double import without_network

from fgr.errors import UserError
from fgr.metrics import no_reference
from fgr.metrics.registry import METRICS, Options, open_base, open_metric, open_metrics


def image(seed=0, side=64, count=1):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_protocol_names_channel_and_border():
    metric = open_metric("ssim", Options(border=4, luma=True))
    assert metric.origin == "fgr.metrics.fidelity, Y of BT.601, border 4"
    assert metric.measure(image(), image()).tolist() == pytest.approx([1], abs=1e-5)


@pytest.mark.parametrize("name", ["psnr", "ssim", "ms-ssim", "full-reference"])
def test_fidelity_gives_a_value_an_image_and_a_gradient(name):
    metric = open_metric(name)
    images = image(count=3).requires_grad_()
    values = metric.measure(images, image(1, count=3))
    values.sum().backward()
    assert values.shape == (3,)
    assert (metric.needs_reference, metric.lower_is_better, metric.differentiable) == (True, False, True)
    assert images.grad.abs().sum() > 0


def test_niqe_is_fitted_on_the_photographs_that_are_given():
    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 256, (192, 192, 3), dtype=np.uint8) for _ in range(8)]
    metric = open_metric("niqe", Options(photographs=photographs, patch=32))
    assert (metric.needs_reference, metric.lower_is_better, metric.differentiable) == (False, True, False)
    noise = torch.from_numpy(np.stack(photographs[:2])).permute(0, 3, 1, 2).float() / 255
    natural, flat = metric.measure(noise), metric.measure(0.5 + 0.01 * (noise - 0.5))
    assert natural.shape == (2,)
    assert natural.dtype == torch.float64
    assert (natural < flat).all()


def test_niqe_without_photographs_names_the_one_that_comes_fitted():
    with pytest.raises(UserError, match=r"fitted on clean photographs.*\n.*pyiqa:niqe"):
        open_metric("niqe")
    with pytest.raises(UserError, match="cannot be fitted on the photographs: 1 sharp"):
        open_metric("niqe", Options(photographs=[np.zeros((96, 96, 3), np.uint8)]))


def test_clipiqa_is_ours_on_open_weights(monkeypatch):
    class Mean(torch.nn.Module):
        def forward(self, batch):
            return batch.mean((1, 2, 3))

    monkeypatch.setattr(no_reference, "open_clipiqa", lambda device: Mean())
    metric = open_metric("clipiqa")
    assert metric.measure(image()).tolist() == pytest.approx([float(image().mean())])
    assert not metric.needs_reference
    assert open_base("clipiqa", differentiable=True)(image()).tolist() == metric.measure(image()).tolist()


@pytest.mark.parametrize(
    ("old", "new"), [("musiq", "pyiqa:musiq"), ("liqe", "pyiqa:liqe"), ("maniqa", "pyiqa:maniqa"), ("clipiqa-open", "clipiqa")]
)
def test_a_former_name_is_answered_with_the_new_one(old, new):
    with pytest.raises(UserError, match=rf"'{old}' is now called {new}\."):
        open_metric(old)


def test_without_pyiqa_its_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pyiqa":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for opened in (open_metric, open_base):
        with pytest.raises(UserError, match=r"The metric pyiqa:niqe needs the package pyiqa.*\n.*fgr\[iqa\]"):
            opened("pyiqa:niqe")


class PyiqaMetric(torch.nn.Module):
    """What pyiqa's create_metric returns, as far as it is used."""

    def __init__(self, mode, lower, score_range):
        super().__init__()
        self.metric_mode, self.lower_better, self.score_range = mode, lower, score_range

    def forward(self, output, target=None):
        return output.mean((1, 2, 3))[:, None] - (target.mean() if target is not None else 0)


@pytest.fixture
def pyiqa(monkeypatch):
    """pyiqa cannot be a test's dependency (its licence is non-commercial): its interface, and weights that are out of reach."""

    def create(name, device, **options):
        if name == "liqe":
            raise RuntimeError("no connection")
        score_range = {"niqe": "0, 100", "musiq": "~0, ~100"}.get(name, "unknown")
        return PyiqaMetric("FR" if name == "topiq_fr" else "NR", name == "niqe", score_range)

    names = ["niqe", "musiq", "liqe", "brisque", "topiq_fr"]
    monkeypatch.setitem(
        sys.modules,
        "pyiqa",
        types.SimpleNamespace(__version__="0.1.16", list_models=lambda: names, create_metric=create),
    )


def test_metrics_of_pyiqa(pyiqa):
    niqe, musiq, topiq = open_metrics(["pyiqa:niqe", "pyiqa:musiq", "pyiqa:topiq_fr"])
    assert (niqe.lower_is_better, musiq.lower_is_better) == (True, False)
    assert (niqe.needs_reference, topiq.needs_reference) == (False, True)
    assert niqe.measure(image(count=2)).tolist() == pytest.approx(image(count=2).mean((1, 2, 3)).tolist())
    assert topiq.measure(image(), image()).tolist() == [0]
    assert musiq.origin == "pyiqa 0.1.16"


def test_a_base_score_is_scaled_and_turned_so_that_larger_is_better(pyiqa):
    mean = float(image().mean())
    assert open_base("pyiqa:musiq")(image()).tolist() == pytest.approx([mean / 100])
    assert open_base("pyiqa:niqe")(image()).tolist() == pytest.approx([1 - mean / 100])
    for name, sentence in {
        "pyiqa:topiq_fr": "needs a reference",
        "psnr": "needs a reference",
        "pyiqa:brisque": "as a score",
    }.items():
        with pytest.raises(UserError, match=sentence):
            open_base(name)


def test_every_metric_that_is_not_available_is_named_at_once(pyiqa, tmp_path, monkeypatch):
    without_network(monkeypatch, tmp_path)
    with pytest.raises(UserError) as caught:
        open_metrics(["psnr", "pyiqa:liqe", "lpips", "pyiqa:musik", "pnsr"])
    text = str(caught.value)
    assert "4 metrics are not available" in text
    assert "pyiqa's liqe are not available: no connection" in text
    assert "which LPIPS needs" in text
    assert "did you mean 'musiq'" in text
    assert "did you mean 'psnr'" in text


def test_the_command_and_the_page_name_every_metric():
    """Only `full-reference` is for recipes alone, and `niqe` for the audit, which fits it."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "verbs" / "evaluate.md").read_text()
    for name in METRICS.keys() - {"full-reference"}:
        assert f"`{name}`" in page, name
