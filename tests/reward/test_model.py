import pytest
import torch
from torch.nn.functional import avg_pool2d

from fgr.errors import UserError
from fgr.reward.encoder import build_encoder
from fgr.reward.model import GATES, FinPercepRM, levels_of


def awake(**settings):
    """A model whose zero-initialised layers are filled, so that every path matters."""
    torch.manual_seed(0)
    model = FinPercepRM(**settings)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def images(count=2, height=48, width=64, seed=0):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_gates_by_hand():
    f, m = torch.tensor([3.0]), torch.tensor([0.25])
    values = {name: [part.item() for part in gate(f, m, 2.0)] for name, gate in GATES.items()}
    assert values == {"concat": [2.25, 0.75], "paper": [0.75], "complement": [2.25], "residual": [4.5]}


@pytest.mark.parametrize(("height", "width"), [(48, 64), (45, 61), (7, 5)])
@pytest.mark.parametrize("stage", [0, 2])
def test_shapes_at_any_size(height, width, stage):
    score, degradation_map = awake(stage=stage)(images(3, height, width))
    assert score.shape == (3,)
    assert degradation_map.shape == (3, 1, height, width)
    assert degradation_map.min() >= 0
    assert degradation_map.max() <= 1
    assert bool(degradation_map.any()) is (stage > 0)


def test_the_score_does_not_depend_on_the_batch():
    model, batch = awake(), images(4)
    scores, maps = model(batch)
    for i in range(4):
        score, degradation_map = model(batch[i : i + 1])
        torch.testing.assert_close(score, scores[i : i + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(degradation_map, maps[i : i + 1], atol=1e-5, rtol=0)


def test_batch_normalisation_is_frozen_even_while_training():
    model = awake(encoder="resnet10t", stages=2, stage=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    together, _ = model(images(4, 64, 64))
    alone, _ = model(images(4, 64, 64)[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    assert before
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_padding_does_not_count():
    """A constant image scores the same whether or not it fills the grid: padded pixels have no weight."""
    model = awake(stage=0)
    sums, weight, _ = model.pooled(torch.full((1, 3, 32, 32), 0.5))
    less, smaller, _ = model.pooled(torch.full((1, 3, 32, 24), 0.5))
    assert weight.item() == 4
    assert smaller.item() == pytest.approx(3)
    assert less.shape == sums.shape


def test_tiles_add_up_to_the_whole():
    model = awake()
    image = images(1, 64, 256)
    whole, _, _ = model.pooled(image)
    left, right = torch.zeros(1, 1, 64, 192), torch.zeros(1, 1, 64, 192)
    left[..., :128], right[..., 64:] = 1, 1
    parts = [model.pooled(image[..., :192], left), model.pooled(image[..., 64:], right)]
    # a tile's halo of 64 pixels covers all but the deepest features' farthest surroundings
    score = model.score_of(parts[0][0] + parts[1][0], parts[0][1] + parts[1][1])
    torch.testing.assert_close(score, model.score_of(whole, torch.tensor([[64.0]])), atol=2e-3, rtol=0)


def test_a_penalty_takes_what_the_map_says_off_the_score_place_by_place():
    plain, image = awake(), images(2, 64, 96)
    penalised = FinPercepRM(**(plain.settings | {"penalty": 2.0})).eval()
    penalised.load_state_dict(plain.state_dict())
    (score, map_, places), (lower, same, lower_places) = plain(image, places=True), penalised(image, places=True)
    torch.testing.assert_close(same, map_)
    fall = 2.0 * avg_pool2d(map_, plain.multiple)[:, 0] * plain.score_std
    torch.testing.assert_close(places - lower_places, fall, atol=1e-4, rtol=0)
    torch.testing.assert_close(score - lower, (places - lower_places).mean((1, 2)), atol=1e-4, rtol=0)
    assert (score > lower).all()


def test_gradient_reaches_every_pixel_of_the_input():
    model, image = awake(), images(1, 45, 61).requires_grad_()
    score, degradation_map = model(image)
    (score.sum() - degradation_map.mean()).backward()
    assert image.grad.isfinite().all()
    assert (image.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("gate", list(GATES))
def test_a_grown_model_begins_where_the_last_stage_ended(gate):
    torch.manual_seed(0)
    model, image = FinPercepRM(gate=gate, stage=1).eval(), images(1)
    torch.nn.init.normal_(model.decoder.levels[0].out.weight, std=0.3)
    later = model.grown(2)
    score, degradation_map = model(image)
    later_score, later_map = later(image)
    assert degradation_map.std() > 0.002
    # the same logits, interpolated in two steps instead of one
    assert (later_map - degradation_map).abs().max() < degradation_map.std()
    torch.testing.assert_close(later_score, score, atol=1e-3, rtol=0)
    assert sum(p.numel() for p in later.parameters()) > sum(p.numel() for p in model.parameters())


def test_the_score_is_the_mean_of_the_local_scores():
    model, image = awake(stage=1), images(height=64, width=96)
    score, map_, places = model(image, places=True)
    assert places.shape == (2, 4, 6)
    torch.testing.assert_close(places.mean((1, 2)), score)
    torch.testing.assert_close(model(image), (score, map_))


def test_the_score_of_stage_0_survives_the_first_map():
    model = FinPercepRM(stage=0).eval()
    score, _ = model(images(1))
    grown = model.grown(1).eval()
    torch.nn.init.constant_(grown.decoder.levels[0].out.bias, -30.0)
    torch.nn.init.constant_(grown.decoder.levels[1].out.bias, 0.0)
    torch.testing.assert_close(grown(images(1))[0], score, atol=1e-5, rtol=0)


def test_the_literal_gate_collapses_on_clean_images():
    """Where the map is empty the published equation sees nothing of the image; the default gate sees all of it."""
    spread = {}
    for gate in ("paper", "concat"):
        model = awake(gate=gate)
        model.decoder.levels[0].out.bias.data.fill_(-40.0)
        for level in model.decoder.levels:
            level.out.weight.data.zero_()
        spread[gate] = model(images(8))[0].std().item()
    assert spread["paper"] < 1e-4 < 1e-3 < spread["concat"]


def test_stages_grow_from_coarse_to_fine():
    assert [levels_of(stage, 3, 4) for stage in range(4)] == [0, 2, 3, 4]
    assert [levels_of(stage, 3, 5) for stage in range(4)] == [0, 2, 4, 5]
    with pytest.raises(UserError, match="too few"):
        levels_of(1, 5, 4)


@pytest.mark.parametrize("trained", ["all", "none", "deepest", "lora"])
def test_what_is_trained_moves_and_what_is_frozen_does_not(trained):
    torch.manual_seed(0)
    model = FinPercepRM(lora_rank=2 if trained == "lora" else 0)
    model.choose_trained(trained)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(3):
        score, degradation_map = model(images(2, 64, 64, seed=step))
        optimizer.zero_grad()
        ((score - 1).square().sum() + (degradation_map - images(2, 64, 64, seed=9)[:, :1]).square().sum()).backward()
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    expected = {
        name
        for name in before
        if not name.startswith("encoder.")
        or trained == "all"
        or (trained == "deepest" and name.startswith("encoder.levels.3."))
        or (trained == "lora" and name.endswith((".0.a", ".0.b")))
    }
    assert moved == expected


@pytest.mark.parametrize("settings", [{}, {"gate": "paper", "stage": 1}, {"lora_rank": 2}])
def test_a_saved_model_comes_back_the_same(tmp_path, settings, capsys):
    model = awake(**settings)
    model.set_scale(0.7, 0.1)
    model.save_pretrained(tmp_path / "rm")
    again = FinPercepRM.from_pretrained(tmp_path / "rm")
    assert again.settings == model.settings
    assert not again.training
    for old, new in zip(model(images()), again(images()), strict=True):
        assert torch.equal(old, new)
    assert "FinPercepRM.from_pretrained" in (tmp_path / "rm" / "README.md").read_text()
    assert not capsys.readouterr().out


def test_wrong_input_is_refused():
    model = FinPercepRM()
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        model(torch.rand(3, 32, 32))
    with pytest.raises(TypeError, match="floating point"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_an_untrained_model_tells_images_apart():
    """Features that are alike for every image before the first step stay so: nothing is learned but the mean."""
    torch.manual_seed(0)
    encoder = build_encoder("tiny")
    image = images(1, 64, 64)
    sharp, soft = (encoder(picture)[-1].mean((0, 2, 3)) for picture in (image, avg_pool2d(image, 5, 1, 2)))
    assert (sharp - soft).abs().mean() > 0.1 * sharp.abs().mean()


def test_an_untrained_map_and_score_are_what_they_are_set_to():
    model = FinPercepRM().eval()
    model.set_map_mean(0.3)
    model.set_scale(0.7, 0.2)
    score, degradation_map = model(images())
    torch.testing.assert_close(degradation_map, torch.full((2, 1, 48, 64), 0.3), atol=1e-5, rtol=0)
    torch.testing.assert_close(score, torch.full((2,), 0.7))
