"""ResShift against numbers recorded from its published implementation (zsyOAOA/ResShift, commit 3ce1d81), run on the same small
weights, inputs and noise in float32. The keys are those of its own state dicts."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_diffusion import filled, image, recorded, resshift

from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.noise import generators
from fgr.sr.diffusion.resshift import Schedule
from fgr.sr.diffusion.swin import shift_mask

FIFTEEN, FOUR, VQ = "resshift_realsrx4_s15_v2.pth", "resshift_realsrx4_s4_v3.pth", "autoencoder_vq_f4.pth"
BICUBIC = "resshift_bicsrx4_s4.pth"


@pytest.fixture(scope="module")
def reference():
    return recorded("resshift_reference.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    resshift(folder)
    resshift(folder, FOUR, prefix="_orig_mod.")
    shutil.copy(folder / FOUR, folder / BICUBIC)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    torch.set_num_threads(1)
    return made


def job(pixels):
    return Job(pixels, "", pixels.shape[:2], (0, 0, 0))


def test_networks(reference, folder):
    restorer = open_upscaler("resshift", scale=4).restorer
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for name, height, width, batch, times in (("unet", 64, 64, 2, [14, 3]), ("unet_wide", 64, 128, 1, [0])):
            latent = torch.randn(batch, 3, height, width, generator=generator)
            shown = torch.rand(batch, 3, height, width, generator=generator) * 2 - 1
            output = restorer._unet(latent, torch.tensor(times), shown)
            reference.expect(name, output[:, :, ::3, ::3])
        block = restorer._unet.input_blocks[1][1].blocks[1]
        reference.expect("block", block(torch.randn(1, 32, 16, 16, generator=generator)))
        photo = torch.rand(1, 3, 32, 64, generator=generator) * 2 - 1
        reference.expect("encoded", restorer._vq.encode(photo).latents)
        reference.expect("decoded", restorer._vq.decode(torch.randn(1, 3, 8, 16, generator=generator)).sample)


def test_constants_of_the_network_are_those_of_the_checkpoint(reference, folder):
    state = open_upscaler("resshift", scale=4).restorer._unet.state_dict()
    names = reference["mask_keys"].tolist()
    assert names == sorted(name for name in state if name.endswith(("attn_mask", "relative_position_index")))
    assert np.allclose([float(state[name].double().sum()) for name in names], reference["mask_sums"])
    assert np.array_equal(shift_mask(16, 16, 8, 4).numpy() != 0, reference["mask"])


@pytest.mark.parametrize(("length", "least"), [(15, 0.04), (4, 0.2)])
def test_schedule(reference, length, least):
    schedule = Schedule(length, least, length)
    assert np.allclose(np.sqrt(schedule.eta), reference[f"sqrt_etas_{length}"], atol=1e-12)
    assert schedule.times == list(range(length))
    assert Schedule(15, 0.04, 5).times == [0, 3, 6, 9, 12]
    known = torch.full((1, 1), 2.0)
    assert schedule.beginning(known, torch.ones(1, 1)).item() == pytest.approx(2 + 2 * 0.99)
    assert schedule.step(known, 0, torch.ones(1, 1), None).item() == pytest.approx(1)  # all of the residual is shifted in


@pytest.mark.parametrize(
    ("key", "name", "seed", "knobs"),
    [("whole_15", "resshift", 0, {}), ("whole_5", "resshift", 0, {"steps": 5}), ("whole_4", "resshift-s4", 1, {})],
)
def test_whole_outputs(reference, folder, key, name, seed, knobs):
    """From an image to an image. The decoder quantises: where two code words are all but equally near, it may choose another."""
    pixels = image(seed, 64, 64)
    restorer = open_upscaler(name, scale=4, diffusion=knobs).restorer
    with torch.inference_mode():
        output = restorer(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, generators([pixels], 0))
    reference.expect(key, output[0].permute(1, 2, 0)[::4, ::4])


@pytest.mark.parametrize(
    ("name", "file", "steps"), [("resshift", FIFTEEN, 15), ("resshift-s4", FOUR, 4), ("resshift-bicubic", BICUBIC, 4)]
)
def test_a_dataset_of_it_verifies_and_knows_its_licence(folder, tmp_path, name, file, steps):
    knobs = {"models": [name], "samples": 2, "source.crop": 64, "source.crops_per_photo": 1}
    limits = ("map.calibration_pairs=1", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    recipe = recipes.load("demo", "generate", limits, knobs | {"accept_license": [name]})
    assert run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    [model] = manifest.read(tmp_path / "out")["models"]
    assert (model["license"], model["redistribute"]) == ("S-Lab-1.0", False)
    assert model["weights"].startswith(f"{file}, {VQ}")
    for row in tables.read_rows(tmp_path / "out", "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == steps


def test_odd_sizes(folder):
    [restored] = open_upscaler("resshift-s4", scale=4).upscale([job(image(0, 20, 31))])
    assert restored.shape == (80, 124, 3)


def test_more_steps_than_there_are_and_files_in_the_wrong_place(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    for file in (FIFTEEN, VQ):
        shutil.copy(made / file, tmp_path)
    with pytest.raises(UserError, match=r"This ResShift has 15 steps, and 16 are asked for.\n.*15 or less"):
        open_upscaler("resshift", scale=4, diffusion={"steps": 16})
    shutil.copy(made / FIFTEEN, tmp_path / VQ)
    with pytest.raises(
        UserError, match=r"vq_f4.pth does not hold ResShift's VQ autoencoder: there is no tensor quantize.embedding"
    ):
        open_upscaler("resshift", scale=4)
    shutil.copy(made / VQ, tmp_path / VQ)
    shutil.copy(made / VQ, tmp_path / FIFTEEN)
    with pytest.raises(UserError, match=r"s15_v2.pth does not hold ResShift's UNet for ×4: there is no tensor input_blocks.1.0"):
        open_upscaler("resshift", scale=4)


def test_a_tensor_too_many_or_too_few_is_named(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(made / FIFTEEN, tmp_path)
    book = filled(recorded("resshift_reference.npz").shapes("vq_keys"))
    torch.save(book | {"encoder.more": torch.zeros(2)}, tmp_path / VQ)
    with pytest.raises(UserError, match=r"VQ autoencoder: tensors 1 unknown \(first encoder.more\)"):
        open_upscaler("resshift", scale=4)
    torch.save({name: one for name, one in book.items() if name != "decoder.conv_out.bias"}, tmp_path / VQ)
    with pytest.raises(UserError, match=r"VQ autoencoder: tensors 1 missing \(first decoder.conv_out.bias\)"):
        open_upscaler("resshift", scale=4)
