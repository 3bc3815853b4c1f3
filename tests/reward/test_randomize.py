"""Randomised copies: equal for equal images, differentiable, aligned; what vanishes under them does not count."""

import numpy as np
import pytest
import torch
from skimage import data as photographs

from fgr.recipe.reward import Loss
from fgr.reward import FinPercepRM, score
from fgr.reward.criterion import Criterion
from fgr.reward.randomize import Randomized, randomized, seed_of, shifted

PHOTO = np.ascontiguousarray(photographs.astronaut()[:96, 150:262])
IMAGE = torch.from_numpy(PHOTO.transpose(2, 0, 1)[None].copy()).float() / 255


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = FinPercepRM().eval().requires_grad_(False)
    torch.nn.init.normal_(made.head[-1].weight)
    made.set_map_mean(0.4)
    for level in made.decoder.levels:
        torch.nn.init.normal_(level.out.weight, std=0.2)
    return made


def test_a_copy_follows_from_image_and_seed_and_is_of_8_bits():
    one, again, other = randomized(IMAGE, 5), randomized(IMAGE, 5), randomized(IMAGE, 6)
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    steps = one.images * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    noise = torch.randint(-2, 3, IMAGE.shape, generator=torch.Generator().manual_seed(0)) / 255
    assert seed_of(IMAGE) == seed_of(IMAGE + noise) != seed_of(IMAGE.flip(3))


def test_copies_are_moved_by_up_to_a_pixel_and_maps_come_back():
    shifts = {randomized(IMAGE, seed).shift for seed in range(60)}
    assert shifts == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    for seed in range(8):
        copy = randomized(IMAGE, seed)
        back = copy.back(copy.images)[..., 4:-4, 4:-4]
        assert (back - IMAGE[..., 4:-4, 4:-4]).abs().mean() < 0.03
    moved = shifted(IMAGE, (1, -1))
    assert torch.equal(moved[..., 1:, :-1], IMAGE[..., :-1, 1:])


def test_dither_and_rounding_let_gradients_through():
    leaf = IMAGE.clone().requires_grad_()
    randomized(leaf, 3).images.sum().backward()
    assert leaf.grad.sum().item() == pytest.approx(leaf.numel(), rel=0.02)


def test_a_single_step_lattice_is_judged_nearly_like_nothing(model):
    """Lines of ±1 of 255 change what the model gives; under randomised copies, at most half as much."""
    lattice = (IMAGE + torch.tensor([1.0, -1.0]).repeat(56) / 255).clamp(0, 1)
    judge = Randomized(model, 8)

    def change(of):
        with torch.no_grad():
            return (of(lattice)[1] - of(IMAGE)[1]).abs().mean().item()

    noise = (IMAGE + torch.randint(-1, 2, IMAGE.shape, generator=torch.Generator().manual_seed(1)) / 255).clamp(0, 1)
    assert change(model) > 0
    assert change(judge) < 0.75 * change(model)
    with torch.no_grad():
        assert (judge(noise)[1] - judge(IMAGE)[1]).abs().mean() < (model(noise)[1] - model(IMAGE)[1]).abs().mean()


def test_neither_score_nor_map_depends_on_the_batch(model):
    judge = Randomized(model, 3)
    batch = torch.cat([IMAGE, IMAGE.flip(3), 1 - IMAGE])
    scores, maps = judge(batch)
    for number, image in enumerate(batch.split(1)):
        alone, map_ = judge(image)
        assert alone.item() == pytest.approx(scores[number].item(), abs=1e-5)
        torch.testing.assert_close(map_[0], maps[number], atol=1e-5, rtol=0)


def test_neither_score_nor_map_depends_on_the_tile(model):
    whole, map_ = score.score(model, PHOTO, tile=0, draws=3)
    tiled, tiled_map = score.score(model, PHOTO, tile=48, draws=3)
    assert tiled == pytest.approx(whole, abs=1e-5)
    np.testing.assert_allclose(tiled_map, map_, atol=2e-3)
    direct, direct_map = Randomized(model, 3)(IMAGE)
    assert whole == pytest.approx(direct.item(), abs=1e-4)
    np.testing.assert_allclose(map_, direct_map[0, 0].numpy(), atol=1e-4)
    assert score.score(model, PHOTO)[0] != whole


def test_training_judges_copies_with_maps_in_place():
    """A model that gives the image itself as its map: against a target that is the image, the error is that of the copy alone."""
    seen = []

    def mirror(images):
        seen.append(images)
        return images.new_zeros(len(images)), images[:, :1]

    image = torch.from_numpy(PHOTO.transpose(2, 0, 1)[None].copy())
    target = IMAGE[:, :1]
    batch = dict.fromkeys(("reference", "composite", "sr"), image) | {"mask": torch.ones_like(target), "target": target}
    errors = []
    for randomize in (False, True):
        criterion = Criterion(Loss(), lambda images: images.new_zeros(len(images)), randomize=randomize)
        composite = criterion(mirror, batch | {"sr_target": target}, 1.0, 1)["map"].item() - target.mean().item() / 3
        errors.append(composite)
    assert not torch.equal(seen[0], seen[1])
    assert errors[0] == pytest.approx(0, abs=1e-6)
    assert 0 < errors[1] < 0.03


def test_no_draw_is_refused(model):
    with pytest.raises(ValueError, match="at least 1"):
        Randomized(model, 0)
