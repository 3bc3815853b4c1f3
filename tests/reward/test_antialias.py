"""Anti-aliased downsampling: the phase of a pattern hardly matters, published weights fit, sizes stay."""

import pytest
import torch

from fgr.errors import UserError
from fgr.reward.antialias import halved, smoothed
from fgr.reward.encoder import ENERGY_FLOOR, TinyEncoder, build_encoder, energy, load_pretrained, open_pretrained, residual
from fgr.reward.export import Plain
from fgr.reward.model import FinPercepRM

LITE0 = "tf_efficientnet_lite0"


def test_filters_by_hand():
    row = torch.tensor([0.0, 0, 8, 0, 0, 0]).view(1, 1, 1, 6).expand(1, 1, 6, 6)
    torch.testing.assert_close(halved(row)[0, 0, 1], torch.tensor([1.0, 3.0, 0.0]))
    torch.testing.assert_close(smoothed(row)[0, 0, 2], torch.tensor([0.0, 2.0, 4.0, 2.0, 0.0, 0.0]))
    flat = torch.full((2, 3, 8, 6), 0.7)
    torch.testing.assert_close(halved(flat), flat[..., :4, :3])


def by_phase(encoder):
    """How much features at 1/8 depend on the phase of lines of period 4, as a share of how much lines change them at all."""
    flat, lines = torch.full((1, 3, 128, 128), 0.1), torch.full((4, 3, 128, 128), 0.1)
    for phase in range(4):
        lines[phase, ..., phase::4] += 0.2
    with torch.no_grad():
        plain, found = (encoder(image)[2][..., 3:-3, 3:-3] for image in (flat, lines))
    return float(found.std(0, correction=0).mean() / (found - plain).abs().mean())


@pytest.mark.parametrize("name", ["tiny", LITE0])
def test_features_depend_less_on_the_phase_of_a_lattice(name):
    shares = {}
    for antialias in (False, True):
        torch.manual_seed(0)
        encoder = build_encoder(name, antialias).eval()
        if name == LITE0:
            load_pretrained(encoder, open_pretrained(name))
        else:
            for block in encoder.modules():
                if hasattr(block, "second"):
                    torch.nn.init.normal_(block.second.weight, std=0.1)  # they begin at 0
        shares[antialias] = by_phase(encoder)
    assert shares[True] < 0.6 * shares[False]


def test_published_weights_fit_and_sizes_stay():
    plain, blurred = (build_encoder(LITE0, antialias) for antialias in (False, True))
    assert [(key, value.shape) for key, value in plain.state_dict().items()] == [
        (key, value.shape) for key, value in blurred.state_dict().items()
    ]
    image = torch.rand(1, 3, 64, 96)
    assert [x.shape for x in plain.eval()(image)] == [x.shape for x in blurred.eval()(image)]


def test_what_is_exported_is_the_model():
    torch.manual_seed(0)
    model = FinPercepRM(encoder=LITE0, antialias=True, stage=1, stages=1).eval()
    torch.nn.init.normal_(model.head[-1].weight)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for ours, exported in zip(model(image), Plain(model).eval()(image), strict=True):
            torch.testing.assert_close(ours, exported, atol=1e-4, rtol=1e-4)


def test_other_backbones_are_refused_with_what_to_do():
    with pytest.raises(UserError, match=r"encoder\.antialias does not know the backbone 'resnet18'") as refused:
        build_encoder("resnet18", antialias=True)
    assert "encoder.antialias=false" in str(refused.value)


def test_a_floor_above_the_rounding_hides_single_steps_and_not_grain():
    def step(floor, sigma):
        grain = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * sigma / 255 / 0.25
        return float((energy(residual(grain), floor) - energy(residual(0 * grain), floor)).mean())

    assert step(ENERGY_FLOOR, 1) > 0.4 * step(ENERGY_FLOOR, 8)
    assert step(0.004, 1) < 0.05 * step(0.004, 8)
    assert TinyEncoder(energy_floor=0.004).energy_floor == 0.004


def test_a_model_keeps_how_its_encoder_is_built_and_one_of_an_earlier_version_is_as_it_was(tmp_path):
    import json

    model = FinPercepRM(antialias=True, energy_floor=0.004, stage=0).eval()
    torch.nn.init.normal_(model.head[-1].weight)
    model.save_pretrained(tmp_path / "rm")
    image = torch.rand(1, 3, 48, 48)
    again = FinPercepRM.from_pretrained(tmp_path / "rm")
    assert torch.equal(again(image)[0], model(image)[0])
    config = json.loads((tmp_path / "rm" / "config.json").read_text())
    for name in ("antialias", "energy_floor"):
        del config[name]  # as version 0.1 wrote it
    (tmp_path / "rm" / "config.json").write_text(json.dumps(config))
    earlier = FinPercepRM.from_pretrained(tmp_path / "rm")
    plain = FinPercepRM(stage=0).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(earlier(image)[0], plain(image)[0])
    assert not torch.equal(earlier(image)[0], model(image)[0])
