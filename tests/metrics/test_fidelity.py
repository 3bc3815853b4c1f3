import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgr.metrics import fidelity as metrics


def picture(side=64, seed=0):
    smooth = torch.rand(2, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(smooth, size=(side, side), mode="bilinear")


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[0] += 0.1  # mean square 0.01: 20 dB
    b[1, 0, 0, 0] = 1.0  # one of 48 values: 10·log10(48)
    assert metrics.psnr(a, b).tolist() == pytest.approx([20, 10 * math.log10(48)])
    assert math.isinf(metrics.psnr(a, a)[0])


def test_the_border_is_cut():
    a, b = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    b[..., :2, :] = 1.0
    b[..., 4, 4] = 0.5  # of 4×4 places one: mean square 1/64
    assert metrics.psnr(a, b, border=2).item() == pytest.approx(10 * math.log10(64))


def test_luma_is_bt601_in_studio_range():
    white, green = torch.ones(1, 3, 2, 2), torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    black = torch.zeros(1, 3, 2, 2)
    assert metrics.psnr(white, black, luma=True).item() == pytest.approx(-20 * math.log10((235 - 16) / 255))
    assert metrics.psnr(white, green, luma=True).item() == pytest.approx(-20 * math.log10((235 - 16 - 128.553) / 255))


def test_ssim_is_that_of_scikit_image():
    from skimage.metrics import structural_similarity

    a, b = picture(), (picture() + 0.1 * picture(seed=1)).clamp(0, 1)
    pairs = zip(a.double().numpy(), b.double().numpy(), strict=True)
    options = {"channel_axis": 0, "data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [structural_similarity(x, y, **options) for x, y in pairs]  # it, too, leaves out the rim
    assert metrics.ssim(a, b).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_flat_images_by_hand():
    """Without variance only the luminance term is left: (2·0.3·0.6 + c) / (0.3² + 0.6² + c), c = 0.01²."""
    a, b = torch.full((1, 3, 16, 16), 0.3), torch.full((1, 3, 16, 16), 0.6)
    expected = (0.36 + 1e-4) / (0.45 + 1e-4)
    assert metrics.ssim(a, b).item() == pytest.approx(expected, abs=1e-3)
    assert metrics.ms_ssim(a, b).item() == pytest.approx(expected, abs=1e-3)  # one scale: SSIM itself


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (22, 2), (43, 2), (44, 3), (64, 3), (98, 3), (99, 4), (176, 5), (999, 5)])
def test_as_many_scales_as_there_is_room_for(side, scales):
    assert metrics.scales(side) == scales


@pytest.mark.parametrize("side", [32, 64, 96, 192])
def test_ms_ssim_at_any_size(side):
    a = picture(side)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(3))
    values = [metrics.ms_ssim((a + level * noise).clamp(0, 1), a) for level in (0.0, 0.05, 0.2)]
    assert values[0].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()


def test_five_scales_are_the_standard_figure():
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as standard

    a, b = picture(192), (picture(192) + 0.1 * picture(192, 1)).clamp(0, 1)
    assert metrics.ms_ssim(a, b)[0].item() == pytest.approx(standard(a[:1], b[:1], data_range=1.0).item(), abs=1e-5)


@given(st.integers(0, 5), st.booleans(), st.integers(0, 2**31))
def test_each_image_is_judged_alone(border, luma, seed):
    rng = np.random.default_rng(seed)
    a, b = (torch.from_numpy(rng.random((3, 3, 32, 40), np.float32)) for _ in range(2))
    for metric in (metrics.psnr, metrics.ssim, metrics.ms_ssim):
        together = metric(a, b, border, luma)
        assert together.shape == (3,)
        alone = torch.cat([metric(a[i : i + 1], b[i : i + 1], border, luma) for i in range(3)])
        assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.ms_ssim])
def test_gradients_flow(metric):
    a = picture(64).requires_grad_()
    metric(a, picture(64, 1), luma=True).sum().backward()
    assert a.grad.isfinite().all()
    assert a.grad.abs().sum() > 0


def test_what_does_not_fit_is_named():
    a = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="of one shape"):
        metrics.psnr(a, a[..., 1:])
    with pytest.raises(ValueError, match="leaves nothing"):
        metrics.psnr(a, a, border=4)
    for small in (metrics.ssim, metrics.ms_ssim):
        with pytest.raises(ValueError, match="needs 11 pixels"):
            small(a, a)


def test_full_reference_is_1_for_itself_and_falls_with_damage():
    smooth = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    clean = torch.nn.functional.interpolate(smooth, scale_factor=8, mode="bicubic").clamp(0, 1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    scores = [metrics.full_reference((clean + level * noise).clamp(0, 1), clean) for level in (0, 0.02, 0.1, 0.4)]
    assert scores[0].tolist() == pytest.approx([1, 1], abs=1e-3)
    assert all((better > worse + 0.02).all() for better, worse in itertools.pairwise(scores))
    assert (scores[-1] > 0).all()


def test_gradient_similarity_by_hand():
    """A step of height h has gradient magnitude h on both sides of it, at half resolution; c = 0.0026."""
    step = torch.zeros(1, 1, 16, 16)
    step[..., 8:] = 0.5
    similarity = metrics.gradient_similarity(step, torch.zeros_like(step))
    assert similarity.shape == (1, 1, 8, 8)
    assert similarity[0, 0, 4, 4].item() == pytest.approx(0.0026 / (0.25 + 0.0026), rel=1e-3)
    assert similarity[0, 0, 4, 1].item() == pytest.approx(1)
