import builtins
import sys
import types

import pytest
import torch

from fgr.errors import UserError
from fgr.metrics.judges import PYIQA, open_judges


def image(seed=0, side=64):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch's weights, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def random_weights(network):
    """A state dict in torchvision's format; the classifier, which no metric uses, is one number repeated."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in network().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.zeros(1).expand(shape) if name.startswith("classifier") else torch.randn(shape, generator=generator) * 0.05
        for name, shape in shapes.items()
    }


def test_the_protocol_names_channel_and_border():
    (judge,) = open_judges(["ssim"], border=4, luma=True)
    assert judge.origin == "fgr.metrics.fidelity, Y of BT.601, border 4"
    assert judge.measure(image(), image()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_learned_distances_on_random_weights_in_the_official_format(hub, name):
    import torchvision

    network, file = {
        "lpips": (torchvision.models.alexnet, "alexnet-owt-7be5be79.pth"),
        "dists": (torchvision.models.vgg16, "vgg16-397923af.pth"),
    }[name]
    torch.save(random_weights(network), hub / file)
    (judge,) = open_judges([name])
    assert judge.lower_is_better
    assert judge.needs_reference
    assert file in judge.origin
    near, far = (judge.measure((image() + level * image(1)).clamp(0, 1), image()) for level in (0.05, 0.5))
    assert judge.measure(image(), image()) == pytest.approx(0, abs=1e-5)
    assert 0 < near < far
    assert judge.measure((image() + 0.05 * image(1)).clamp(0, 1), image()) == near  # nothing adds up between images


def test_weights_that_are_not_here_are_a_sentence(hub):
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth, which lpips needs, cannot be fetched: no network"):
        open_judges(["lpips"])


def test_weights_that_would_run_code_are_not_opened(hub, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"features.0.weight": Evil()}, hub / "alexnet-owt-7be5be79.pth")
    with pytest.raises(UserError, match="damaged"):
        open_judges(["lpips"])
    assert not (tmp_path / "ran").exists()


def test_without_pyiqa_its_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "pyiqa":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"The metric niqe needs the package pyiqa.*\n.*fgr\[iqa\]"):
        open_judges(["niqe"])


class Stand(torch.nn.Module):
    """What pyiqa's create_metric returns, as far as it is used."""

    def __init__(self, mode, lower):
        super().__init__()
        self.metric_mode, self.lower_better = mode, lower

    def forward(self, output, target=None):
        return output.mean()[None] - (target.mean() if target is not None else 0)


@pytest.fixture
def pyiqa(monkeypatch):
    """pyiqa cannot be a test's dependency (its licence is non-commercial): its interface, and weights that are out of reach."""

    def create(name, device):
        if name == "liqe":
            raise RuntimeError("no connection")
        return Stand("FR" if name == "topiq_fr" else "NR", name == "niqe")

    module = types.SimpleNamespace(
        __version__="0.1.16", list_models=lambda: [*PYIQA, "topiq_fr"], create_metric=lambda name, device: create(name, device)
    )
    monkeypatch.setitem(sys.modules, "pyiqa", module)


def test_metrics_of_pyiqa(pyiqa):
    niqe, musiq, topiq = open_judges(["niqe", "musiq", "pyiqa:topiq_fr"])
    assert (niqe.lower_is_better, musiq.lower_is_better) == (True, False)
    assert (niqe.needs_reference, topiq.needs_reference) == (False, True)
    assert niqe.measure(image(), None) == pytest.approx(float(image().mean()))
    assert topiq.measure(image(), image()) == 0
    assert musiq.origin == "pyiqa 0.1.16"


def test_every_metric_that_cannot_be_had_is_named_at_once(pyiqa, hub):
    with pytest.raises(UserError) as caught:
        open_judges(["psnr", "liqe", "lpips", "pyiqa:musik", "pnsr"])
    text = str(caught.value)
    assert "4 metrics cannot be had" in text
    assert "pyiqa's liqe cannot be had: no connection" in text
    assert "lpips needs" in text
    assert "did you mean 'musiq'" in text
    assert "did you mean 'psnr'" in text


def test_clipiqa_open_on_random_weights(monkeypatch):
    from fgr.metrics import clipiqa

    class Mean(torch.nn.Module):
        def forward(self, batch):
            return batch.mean((1, 2, 3))

    monkeypatch.setattr(clipiqa, "open_clipiqa", lambda device: Mean())
    (judge,) = open_judges(["clipiqa-open"])
    assert judge.measure(image(), None) == pytest.approx(float(image().mean()))
    assert not judge.needs_reference
