"""The autoencoder in tiles against numbers recorded from cswry/OSEDiff's VAEHook (commit fcc4f09), without its fast modes, on the
same small weights in float32."""

import pytest
import torch
from small_diffusion import image, restored

from fgr.errors import UserError
from fgr.sr import open_upscaler
from fgr.sr.diffusion.files import BASE, folder_of, paths
from fgr.sr.diffusion.loading import base_parts
from fgr.sr.diffusion.vae_tiles import Span, spans, tile_autoencoder

MODELS, RECORDED = ("osediff", "seesr"), "osediff_reference.npz"
SMALL = {"prompt": "", "steps": 1}


def test_both_halves(reference, folder):
    vae = base_parts(folder_of(paths("osediff"), BASE))["vae"]()
    tile_autoencoder(vae, 64, 8)
    generator = torch.Generator().manual_seed(0)
    photo, latents = torch.rand(1, 3, 96, 200, generator=generator) * 2 - 1, torch.randn(2, 4, 20, 43, generator=generator)
    with torch.inference_mode():
        reference.expect("tiled_moments", vae.encoder(photo))
        reference.expect("tiled_decoded", vae.decoder(latents)[:, :, ::5, ::5])


def test_where_tiles_lie():
    assert spans(50, 64, 11) == [Span(0, 50, 0, 50)]
    assert spans(200, 64, 32) == [Span(0, 128, 0, 96), Span(64, 192, 96, 160), Span(128, 200, 160, 200)]
    assert spans(15, 8, 11) == [Span(0, 15, 0, 15)]  # along the short side of a long image
    for length in range(8, 400, 7):
        found = spans(length, 64, 32)
        assert [0, *(one.kept_stop for one in found)] == [*(one.kept_start for one in found), length]


@pytest.mark.parametrize(("name", "settings"), [("osediff", SMALL), ("seesr", SMALL | {"steps": 2})])
def test_large_images_are_tiled_and_small_ones_are_not(folder, name, settings):
    whole, tiled = settings | {"encoder_tile": 0, "decoder_tile": 0}, settings | {"encoder_tile": 64, "decoder_tile": 8}
    small, large = image(0, 32, 32), image(1, 32, 66)
    assert (restored(name, small, whole) == restored(name, small, tiled)).all()
    results = [restored(name, large, one) for one in (whole, settings, tiled)]
    assert (results[0] == results[1]).all()
    assert results[2].shape == (128, 264, 3)
    assert (results[2] != results[0]).any()


def test_a_tile_that_the_latent_does_not_divide_is_refused(folder):
    with pytest.raises(Exception, match="multiple of 32"):
        open_upscaler("osediff", scale=4, diffusion=SMALL | {"encoder_tile": 100})
    with pytest.raises(UserError, match="sets encoder_tile to '100'"):
        open_upscaler("osediff@encoder_tile=100", scale=4)
