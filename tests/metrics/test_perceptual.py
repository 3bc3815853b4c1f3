import pytest
import torch
from torchvision_double import put_weights, without_network

from fgr.errors import UserError
from fgr.metrics import perceptual

OPENERS = {"lpips": lambda: perceptual.open_lpips("alex"), "dists": perceptual.open_dists}
NETWORKS = {"lpips": "alexnet", "dists": "vgg16"}


def image(seed=0, side=64):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """An empty folder of torch's weights, and no network."""
    return without_network(monkeypatch, tmp_path)


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_distances_grow_with_damage_and_have_a_gradient(checkpoints, monkeypatch, name):
    file = put_weights(monkeypatch, checkpoints, NETWORKS[name])
    distance, origin = OPENERS[name]()
    assert origin == file
    near, far = ((image() + level * image(1)).clamp(0, 1) for level in (0.05, 0.5))
    assert float(distance(image(), image())) == pytest.approx(0, abs=1e-5)
    assert 0 < float(distance(near, image())) < float(distance(far, image()))
    both = distance(torch.cat([near, far]), torch.cat([image(), image()]))
    assert both.tolist() == pytest.approx([float(distance(near, image())), float(distance(far, image()))], rel=1e-4)
    leaf = near.clone().requires_grad_()
    distance(leaf, image()).sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_weights_that_are_not_here_are_a_sentence(checkpoints):
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth, which LPIPS needs, are not available: no network"):
        OPENERS["lpips"]()


def test_weights_of_another_digest_are_not_opened(checkpoints, tmp_path):
    torch.save({"features.0.weight": Evil(tmp_path / "ran")}, checkpoints / "alexnet-owt-7be5be79.pth")
    with pytest.raises(UserError, match=r"sha256 does not begin with 7be5be79.\nDelete the file"):
        OPENERS["lpips"]()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_weights_that_would_run_code_are_refused_whatever_their_digest(checkpoints, tmp_path, monkeypatch, name):
    put_weights(monkeypatch, checkpoints, NETWORKS[name], {"features.0.weight": Evil(tmp_path / "ran")})
    with pytest.raises(UserError, match="refused"):
        OPENERS[name]()
    assert not (tmp_path / "ran").exists()
