"""Tiles of latents and pieces of inputs: where they lie, how they are weighed, and that they are the whole of what does not
depend on the place."""

import pytest
import torch
from recordings import recorded
from small_diffusion import image
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.latent_tiles import Chop, even, offsets, predict_in_tiles, weights

MODELS = ("stablesr", "resshift-s4")
RECORDED = "stablesr_reference.npz"


def test_tile_weights_and_offsets(reference):
    assert torch.allclose(weights(16, 16), torch.from_numpy(reference["tile_weights"]), rtol=1e-5)
    assert offsets(64, 64, 32) == [0]
    assert offsets(96, 64, 32) == [0, 32]
    assert offsets(100, 64, 32) == [0, 32, 36]
    assert offsets(40, 64, 32) == [0]
    with pytest.raises(ValueError, match="tiles of 16 cannot share 16"):
        offsets(40, 16, 16)


def test_tiles_of_what_does_not_depend_on_the_place_are_the_whole():
    latent = torch.randn(2, 4, 21, 40, generator=torch.Generator().manual_seed(0))
    merged = predict_in_tiles(lambda tile, condition: tile * 2 + condition, latent, latent, 16, 8)
    assert torch.allclose(merged, latent * 3, atol=1e-6)


@pytest.mark.parametrize(
    ("published", "overlap", "scale", "chop"),
    [
        ("stablesr_reference.npz", 7, 1, lambda settings: Chop.of(settings, weights)),
        ("resshift_reference.npz", 4, 4, lambda settings: Chop.of(settings, even, clamped=True)),
    ],
)
def test_pieces_are_merged_as_published(published, overlap, scale, chop):
    """What StableSR's and ResShift's scripts make of a formula of each piece."""

    def formula(piece):
        height, width = (side * scale for side in piece.shape[2:])
        down, right = torch.arange(height)[:, None] / 40, torch.arange(width)[None] / 30
        large = functional.interpolate(piece, scale_factor=float(scale), mode="nearest")
        return (large * torch.cos(down + 2 * right) + down - right) / 2 + 0.5

    images = torch.rand(1, 3, 50, 77, generator=torch.Generator().manual_seed(0))
    merged = chop({"chop": 32, "chop_overlap": overlap}).restore(images, formula, scale)
    recorded(published).expect("chopped", (merged * 2 - 1)[:, :, ::scale, ::scale])


@pytest.mark.parametrize("name", MODELS)
def test_inputs_above_the_size_are_cut_and_others_are_not(folder, name):
    settings = {"steps": 2, "latent_tile": 16, "latent_overlap": 8}
    calls = []
    for chop, width in ((64, 64), (64, 100), (0, 100)):
        upscaler = open_upscaler(name, scale=4, diffusion=settings | {"chop": chop, "chop_overlap": 8})
        seen = []
        upscaler.model.networks["vae"].decoder.register_forward_hook(lambda *call, seen=seen: seen.append(call[2].shape[3]))
        assert upscaler.upscale([Job(image(0, 32, width), "", (32, width), (0, 0, 0))])[0].shape == (128, 4 * width, 3)
        assert upscaler.settings()["diffusion"]["chop"] == chop
        calls.append(seen)
    assert calls[:2] == [[256], [256, 256]]
    assert len(calls[2]) == 1


def test_pieces_must_be_larger_than_what_they_share(folder):
    with pytest.raises(UserError, match=r"Pieces of 64 pixels cannot overlap by 64.\n.*Lower chop_overlap, or raise chop"):
        open_upscaler("resshift-s4", scale=4, diffusion={"chop": 64})
