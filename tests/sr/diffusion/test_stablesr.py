"""StableSR against numbers recorded from its published implementation (IceClear/StableSR, commit 398ee93), run on the same small
weights, inputs and noise in float32: blocks, sampler, colour fixes, whole outputs. The keys are those of its own state dicts."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_diffusion import filled, image, recorded, stablesr

from fgr import recipe as recipes
from fgr.dataset import tables, verify
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion import canvas, cfw, color, structure
from fgr.sr.diffusion.ddpm import Chain, spaced
from fgr.sr.diffusion.noise import generators

MAIN, TURBO, WRAPPED = "stablesr_000117.ckpt", "stablesr_turbo.ckpt", "vqgan_cfw_00011.ckpt"
SMALL = {"steps": 4, "latent_tile": 16, "latent_overlap": 8}
CLOSE = 1e-4


@pytest.fixture(scope="module")
def reference():
    return recorded("stablesr_reference.npz")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    stablesr(folder)
    shutil.copy(folder / MAIN, folder / TURBO)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    torch.set_num_threads(1)
    return made


@pytest.fixture(scope="module")
def restorer(made):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGR_WEIGHTS", str(made))
        return open_upscaler("stablesr", scale=4, diffusion=SMALL).restorer


@pytest.fixture
def drawn():
    """The inputs in the order in which they were drawn when the numbers were recorded."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return lambda *shape, kind=torch.randn: kind(*shape, generator=generator)


def job(pixels):
    return Job(pixels, "", pixels.shape[:2], (0, 0, 0))


def test_networks(reference, restorer, drawn):
    latent, times = drawn(2, 4, 16, 16), torch.tensor([999, 340])
    wide, time = drawn(1, 4, 16, 32), torch.tensor([57])
    text = restorer._text[1:]
    with torch.inference_mode():
        reference.expect("text", text[0, :6], index=0)
        features = restorer._encoder(latent, times)
        for (height, _), one in features.items():
            reference.expect(f"structure_{height}", one)
        restorer._structure.features = features
        reference.expect("unet", restorer._unet(latent.flip(0), times, text.expand(2, -1, -1)).sample)
        restorer._structure.features = restorer._encoder(wide.flip(3), time)
        reference.expect("unet_wide", restorer._unet(wide, time, text).sample)


def test_blocks_and_colours(reference, restorer, drawn):
    drawn(2, 4, 16, 16), drawn(1, 4, 16, 32)
    spade, fusion = structure.Spade(64, 32), cfw.Fusion(32)
    for module in (spade, fusion):
        module.load_state_dict(filled({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}))
    with torch.inference_mode():
        reference.expect("spade", spade(drawn(1, 64, 4, 4), drawn(1, 32, 4, 4)))
        encoded, decoded = drawn(1, 32, 4, 4), drawn(1, 32, 4, 4)
        reference.expect("fusion", decoded + 0.5 * fusion(encoded, decoded))
        photo = drawn(1, 3, 64, 96, kind=torch.rand) * 2 - 1
        reference.expect("moments", restorer._vae.encode(photo).latent_dist.parameters)
        latent = drawn(1, 4, 8, 12)
        weight = restorer._wrapping.weight
        for w in (0.0, 0.5):
            restorer._wrapping.weight = w
            reference.expect(f"decoded_{w}", restorer._vae.decode(latent).sample)
        restorer._wrapping.weight = weight
    one, other = drawn(2, 3, 40, 24, kind=torch.rand), drawn(2, 3, 40, 24, kind=torch.rand)
    reference.expect("adain", color.adain(one, other))
    reference.expect("wavelet", color.wavelet(one, other))


@pytest.mark.parametrize("steps", [4, 50, 200])
def test_sampler_steps(reference, steps):
    assert spaced(steps) == reference[f"times_{steps}"].tolist()
    chain = Chain(spaced(steps))
    for i in (steps - 1, steps // 2, 0):
        now, prediction, noise, start, result = torch.from_numpy(reference[f"step_{steps}_{i}"])
        found = chain.start(now, i, prediction)
        assert torch.allclose(found, start, atol=CLOSE)
        assert torch.allclose(chain.step(now, i, found, noise), result, atol=CLOSE)


def test_a_thousand_steps_are_the_whole_chain():
    assert spaced(1000) == list(range(1000))
    with pytest.raises(ValueError, match="1 to 1000 steps, not 1001"):
        spaced(1001)


def test_a_velocity_gives_the_same_start():
    chain, generator = Chain(spaced(10)), torch.Generator().manual_seed(0)
    start, noise = torch.randn(2, 3, generator=generator, dtype=torch.float64), torch.randn(2, 3, generator=generator)
    signal, rest = np.sqrt(chain._bar[4]), np.sqrt(1 - chain._bar[4])
    now = chain.noised(start, chain.times[4], noise)
    assert torch.allclose(chain.start(now, 4, noise), start)
    assert torch.allclose(chain.start(now, 4, signal * noise - rest * start, "v"), start)


@pytest.mark.parametrize(("name", "seed", "knobs"), [("square", 0, {}), ("wide", 1, {"color_fix": "wavelet", "cfw": 0.3})])
def test_whole_outputs(reference, folder, name, seed, knobs):
    """From an image to an image: alone in a latent tile, and in three tiles from the noised input."""
    pixels = image(seed, 32, 48 if name == "wide" else 32)
    restorer = open_upscaler("stablesr", scale=4, diffusion=SMALL | knobs).restorer
    inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    calls = []
    restorer.networks["unet"].register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        output = restorer(inputs, generators([pixels], 0))
    reference.expect(name, output[0].permute(1, 2, 0)[::2, ::2])
    assert len(calls) == 4 * (2 if name == "wide" else 1)


def test_tile_weights_and_offsets(reference):
    assert torch.allclose(canvas.weights(16, 16), torch.from_numpy(reference["tile_weights"]), rtol=1e-5)
    assert canvas.offsets(64, 64, 32) == [0]
    assert canvas.offsets(96, 64, 32) == [0, 32]
    assert canvas.offsets(100, 64, 32) == [0, 32, 36]
    assert canvas.offsets(40, 64, 32) == [0]
    with pytest.raises(ValueError, match="tiles of 16 cannot share 16"):
        canvas.offsets(40, 16, 16)


def test_tiles_of_what_does_not_depend_on_the_place_are_the_whole():
    latent = torch.randn(2, 4, 21, 40, generator=torch.Generator().manual_seed(0))
    merged = canvas.merged(lambda tile, condition: tile * 2 + condition, latent, latent, 16, 8)
    assert torch.allclose(merged, latent * 3, atol=1e-6)


def test_images_smaller_than_a_tile_and_of_odd_sizes(folder):
    upscaler = open_upscaler("stablesr", scale=4, diffusion=SMALL | {"steps": 1})
    for height, width in ((16, 16), (33, 35)):
        [restored] = upscaler.upscale([job(image(0, height, width))])
        assert restored.shape == (4 * height, 4 * width, 3)


def test_the_knobs_change_the_image_and_belong_to_the_row(folder):
    pixels = image(0, 32, 32)
    outputs = set()
    for knobs in ({}, {"cfw": 0.0}, {"color_fix": "none"}, {"seed": 3}, {"guidance": 3.0, "negative_prompt": "blur"}):
        if "negative_prompt" in knobs:
            with pytest.raises(UserError, match=r"'blur' needs a CLIP tokenizer.*\n.*sd2.1-base/tokenizer"):
                open_upscaler("stablesr", scale=4, diffusion=SMALL | knobs)
            continue
        upscaler = open_upscaler("stablesr", scale=4, diffusion=SMALL | {"steps": 2} | knobs)
        assert upscaler.settings()["diffusion"].items() >= knobs.items()
        outputs.add(upscaler.upscale([job(pixels)])[0].tobytes())
    assert len(outputs) == 4


@pytest.mark.parametrize(("name", "steps"), [("stablesr", 1), ("stablesr-turbo", None)])
def test_a_dataset_of_it_verifies_and_replays_once_its_licence_is_accepted(folder, tmp_path, name, steps):
    knobs = {"models": [name], "samples": 2, "source.crop": 64, "source.crops_per_photo": 1}
    limits = ("map.calibration_pairs=1", "severity=[0, 1]", "masks.kinds={full: 1}", "splits={train: 1, validation: 0, test: 0}")
    small = [f"inference.diffusion.{key}={value}" for key, value in SMALL.items() if key != "steps"]
    small += [f"inference.diffusion.steps={steps}"] if steps else []
    with pytest.raises(UserError, match=rf"'{name}' is under S-Lab-1.0, which allows non-commercial use only"):
        run.generate(recipes.load("demo", "generate", [*limits, *small], knobs), tmp_path / "out", workers=1, device="cpu")
    recipe = recipes.load("demo", "generate", [*limits, *small], knobs | {"accept_license": [name]})
    assert run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    assert list(replay(tmp_path / "out", 1, "cpu")) == [None]
    for row in tables.read_rows(tmp_path / "out", "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == (steps or 4)


def test_a_checkpoint_in_the_wrong_slot_is_refused_by_what_it_lacks(made, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(made / WRAPPED, tmp_path / MAIN)
    shutil.copy(made / WRAPPED, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"000117.ckpt is not StableSR's main checkpoint .* no tensor structcond_stage_model"):
        open_upscaler("stablesr", scale=4)
    shutil.copy(made / MAIN, tmp_path / MAIN)
    shutil.copy(made / MAIN, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"00011.ckpt is not StableSR's autoencoder with CFW .* no tensor decoder.fusion_layer_"):
        open_upscaler("stablesr", scale=4)


def test_a_checkpoint_with_a_tensor_too_few_or_too_many_is_refused(made, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(made / MAIN, tmp_path / MAIN)
    state = torch.load(made / WRAPPED, weights_only=True)["state_dict"]
    torch.save({name: one for name, one in state.items() if "fusion_layer_2.encode_enc_3.conv1" not in name}, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"CFW blocks: tensors 2 missing \(first fusion_layer_2.encode_enc_3.conv1.bias\)"):
        open_upscaler("stablesr", scale=4)
    torch.save(state | {"encoder.extra.weight": torch.zeros(2)}, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"an autoencoder of Stable Diffusion: tensors 1 unknown \(first encoder.extra.weight\)"):
        open_upscaler("stablesr", scale=4, diffusion=SMALL)


def test_latent_tiles_must_be_larger_than_what_they_share(folder):
    with pytest.raises(UserError, match="Latent tiles of 16 cannot share 16"):
        open_upscaler("stablesr", scale=4, diffusion={"latent_tile": 16, "latent_overlap": 16})
