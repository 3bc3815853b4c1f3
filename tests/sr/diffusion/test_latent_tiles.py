"""Latent tiles: where they lie, how they are weighed, and that they are the whole of what does not depend on the place."""

import pytest
import torch

from fgr.sr.diffusion.latent_tiles import offsets, predict_in_tiles, weights

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
