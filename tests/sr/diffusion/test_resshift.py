"""ResShift against numbers recorded from its published implementation (zsyOAOA/ResShift, commit 3ce1d81), run on the same small
weights, inputs and noise in float32. The keys are those of its own state dicts."""

import json
import shutil

import numpy as np
import pytest
import torch
from recordings import filled, recorded
from small_diffusion import image, restored

from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.sr import open_upscaler
from fgr.sr.diffusion.residual_shift import ResidualShiftSampler
from fgr.sr.diffusion.swin import shift_mask

FIFTEEN, FOUR, VQ = "resshift_realsrx4_s15_v2.pth", "resshift_realsrx4_s4_v3.pth", "autoencoder_vq_f4.pth"
BICUBIC = "resshift_bicsrx4_s4.pth"
MODELS, RECORDED = ("resshift", "resshift-s4", "resshift-bicubic"), "resshift_reference.npz"


def test_networks(reference, model):
    networks = model().networks
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for name, height, width, batch, times in (("unet", 64, 64, 2, [14, 3]), ("unet_wide", 64, 128, 1, [0])):
            latent = torch.randn(batch, 3, height, width, generator=generator)
            shown = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
            output = networks["unet"](latent, torch.tensor(times), shown)
            reference.expect(name, output[:, :, ::3, ::3])
        block = networks["unet"].input_blocks[1][1].blocks[1]
        reference.expect("block", block(torch.randn(1, 32, 16, 16, generator=generator)))
        photo = torch.rand(1, 3, 32, 64, generator=generator) * 2 - 1
        reference.expect("encoded", networks["vae"].encode(photo).latents)
        reference.expect("decoded", networks["vae"].decode(torch.randn(1, 3, 8, 16, generator=generator)).sample)


def test_constants_of_the_network_are_those_of_the_checkpoint(reference, model):
    state = model().networks["unet"].state_dict()
    names = reference["mask_keys"].tolist()
    assert names == sorted(name for name in state if name.endswith(("attn_mask", "relative_position_index")))
    assert np.allclose([float(state[name].double().sum()) for name in names], reference["mask_sums"])
    assert np.array_equal(shift_mask(16, 16, 8, 4).numpy() != 0, reference["mask"])


@pytest.mark.parametrize(("length", "least"), [(15, 0.04), (4, 0.2)])
def test_schedule(reference, length, least):
    sampler = ResidualShiftSampler(length, least, length)
    assert np.allclose(np.sqrt(sampler.eta), reference[f"sqrt_etas_{length}"], atol=1e-12)
    assert sampler.times == list(reversed(range(length)))
    assert ResidualShiftSampler(15, 0.04, 5).times == [12, 9, 6, 3, 0]
    known = torch.full((1, 1), 2.0)
    assert sampler.beginning(known, torch.ones(1, 1)).item() == pytest.approx(2 + 2 * 0.99)
    last = sampler.step(known, torch.ones(1, 1), length - 1)
    assert last.mean.item() == pytest.approx(1)  # all of the residual is shifted in
    assert last.sd == 0


@pytest.mark.parametrize(
    ("key", "name", "seed", "settings"),
    [("whole_15", "resshift", 0, {}), ("whole_5", "resshift", 0, {"steps": 5}), ("whole_4", "resshift-s4", 1, {})],
)
def test_whole_outputs(reference, model, sampled, key, name, seed, settings):
    """From an image to an image. The decoder quantises: where two code words are all but equally near, it may choose another."""
    reference.expect(key, sampled(model(name, **settings), image(seed, 64, 64))[::4, ::4])


@pytest.mark.parametrize(
    ("name", "file", "steps"), [("resshift", FIFTEEN, 15), ("resshift-s4", FOUR, 4), ("resshift-bicubic", BICUBIC, 4)]
)
def test_a_dataset_of_it_verifies_and_knows_its_licence(dataset_of, name, file, steps):
    made = dataset_of(name, accept_license=[name])
    [model] = manifest.read(made)["models"]
    assert (model["license"], model["redistribute"]) == ("S-Lab-1.0", False)
    assert model["weights"].startswith(f"{file}, {VQ}")
    for row in tables.read_rows(made, "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == steps


def test_odd_sizes(folder):
    assert restored("resshift-s4", image(0, 20, 31), {}).shape == (80, 124, 3)


def test_more_steps_than_there_are_and_files_in_the_wrong_place(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    for file in (FIFTEEN, VQ):
        shutil.copy(folder / file, tmp_path)
    with pytest.raises(UserError, match=r"This ResShift model has 15 steps, but steps=16 was requested.\n.*15 or less"):
        open_upscaler("resshift", scale=4, diffusion={"steps": 16})
    shutil.copy(folder / FIFTEEN, tmp_path / VQ)
    with pytest.raises(
        UserError, match=r"vq_f4.pth does not hold ResShift's VQ autoencoder: there is no tensor quantize.embedding"
    ):
        open_upscaler("resshift", scale=4)
    shutil.copy(folder / VQ, tmp_path / VQ)
    shutil.copy(folder / VQ, tmp_path / FIFTEEN)
    with pytest.raises(UserError, match=r"s15_v2.pth does not hold ResShift's UNet for ×4: there is no tensor input_blocks.1.0"):
        open_upscaler("resshift", scale=4)


def test_a_tensor_too_many_or_too_few_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(folder / FIFTEEN, tmp_path)
    book = filled(recorded("resshift_reference.npz").shapes("vq_keys"))
    torch.save(book | {"encoder.more": torch.zeros(2)}, tmp_path / VQ)
    with pytest.raises(UserError, match=r"VQ autoencoder: tensors 1 unknown \(first encoder.more\)"):
        open_upscaler("resshift", scale=4)
    torch.save({name: one for name, one in book.items() if name != "decoder.conv_out.bias"}, tmp_path / VQ)
    with pytest.raises(UserError, match=r"VQ autoencoder: tensors 1 missing \(first decoder.conv_out.bias\)"):
        open_upscaler("resshift", scale=4)
