"""StableSR against numbers recorded from its published implementation (IceClear/StableSR, commit 398ee93), run on the same small
weights, inputs and noise in float32: blocks, sampler, colour fixes, whole outputs. The keys are those of its own state dicts."""

import json
import shutil

import pytest
import torch
from recordings import filled
from small_diffusion import image, restored

from bench.random_weights import tokenizer
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.replay import replay
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.pixels import adain, wavelet
from fgr.sr.diffusion.samplers import AncestralSampler, spaced
from fgr.sr.diffusion.stablesr_networks import Fusion, Spade
from fgr.sr.diffusion.stepwise import Start, generators
from fgr.sr.zoo import ZOO

MODELS = ("stablesr", "stablesr-turbo", "stablesr-768")
MAIN, TURBO, WRAPPED = "stablesr_000117.ckpt", "stablesr_turbo.ckpt", "vqgan_cfw_00011.ckpt"
SMALL = {"steps": 4, "latent_tile": 16, "latent_overlap": 8}
CLOSE = 1e-4
RECORDED = "stablesr_reference.npz"


@pytest.fixture
def drawn():
    """The inputs in the order in which they were drawn when the numbers were recorded."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return lambda *shape, kind=torch.randn: kind(*shape, generator=generator)


def test_networks(reference, model, drawn):
    latent, times = drawn(2, 4, 16, 16), torch.tensor([999, 340])
    wide, time = drawn(1, 4, 16, 32), torch.tensor([57])
    opened = model(latent_tile=32)
    with torch.inference_mode():
        text = opened.begin(torch.rand(1, 3, 32, 32), generators([image(0)], 0)).condition["text"]
        reference.expect("text", text[0, :6], index=0)
        for (height, _), one in opened.networks["structure encoder"](latent, times).items():
            reference.expect(f"structure_{height}", one)
        reference.expect(
            "unet",
            opened.predict(
                latent.flip(0), times, Start(latent, {"known": latent, "text": text.expand(2, -1, -1), "without": None})
            ),
        )
        reference.expect(
            "unet_wide", opened.predict(wide, time, Start(wide, {"known": wide.flip(3), "text": text, "without": None}))
        )


def test_blocks_and_colours(reference, model, drawn):
    drawn(2, 4, 16, 16), drawn(1, 4, 16, 32)
    spade, fusion = Spade(64, 32), Fusion(32)
    for module in (spade, fusion):
        module.load_state_dict(filled({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}))
    vae = model().networks["vae"]
    with torch.inference_mode():
        reference.expect("spade", spade(drawn(1, 64, 4, 4), drawn(1, 32, 4, 4)))
        encoded, decoded = drawn(1, 32, 4, 4), drawn(1, 32, 4, 4)
        reference.expect("fusion", decoded + 0.5 * fusion(encoded, decoded))
        photo = drawn(1, 3, 64, 96, kind=torch.rand) * 2 - 1
        reference.expect("moments", vae.encode(photo).latent_dist.parameters)
        latent = drawn(1, 4, 8, 12)
        for weight in (0.0, 0.5):
            vae.wrapping.weight = weight
            reference.expect(f"decoded_{weight}", vae.decode(latent).sample)
    one, other = drawn(2, 3, 40, 24, kind=torch.rand), drawn(2, 3, 40, 24, kind=torch.rand)
    reference.expect("adain", adain(one, other))
    reference.expect("wavelet", wavelet(one, other))


@pytest.mark.parametrize("steps", [4, 50, 200])
def test_sampler_steps(reference, steps):
    assert spaced(steps) == reference[f"times_{steps}"].tolist()
    sampler = AncestralSampler(spaced(steps))
    for i in (steps - 1, steps // 2, 0):
        now, prediction, noise, start, result = torch.from_numpy(reference[f"step_{steps}_{i}"])
        step = sampler.step(now, prediction, steps - 1 - i)
        assert torch.allclose(step.clean, start, atol=CLOSE)
        assert torch.allclose(step.drawn(noise), result, atol=CLOSE)


@pytest.mark.parametrize(
    ("key", "seed", "width", "calls", "settings"),
    [
        ("square_old", 0, 32, 1, {}),  # the script for a single latent tile: bilinear, from noise
        ("square_tile", 0, 32, 1, {"start": "lr", "input": "bicubic"}),  # the one for any size: bicubic, from the noised input
        ("odd_tile", 4, 41, 4, {}),
        ("wide", 1, 48, 2, {"color_fix": "wavelet", "cfw": 0.3}),
        ("ddim_768", 5, 48, 4, {"steps": 6}),
    ],
)
def test_whole_outputs(reference, model, sampled, key, seed, width, calls, settings):
    """From an image to an image: alone in a latent tile, and in several, as each of the published scripts does."""
    opened, made = model("stablesr-768" if key == "ddim_768" else "stablesr", **settings), []
    opened.networks["unet"].register_forward_hook(lambda *_: made.append(1))
    reference.expect(key, sampled(opened, image(seed, 32, width))[::2, ::2], close=2e-4)
    assert len(made) == opened.settings["steps"] * calls


def test_start_and_input_follow_the_size_unless_they_are_chosen(folder):
    outputs = {
        restored("stablesr", image(0, 32, 32), SMALL | {"steps": 2} | chosen).tobytes()
        for chosen in ({}, {"start": "noise"}, {"input": "bilinear"}, {"start": "lr"}, {"input": "bicubic"})
    }
    assert len(outputs) == 3  # the first three are one


@pytest.mark.parametrize("name", ["stablesr", "stablesr-turbo"])
def test_a_single_step_is_refused(folder, name):
    with pytest.raises(UserError, match="StableSR needs 2 steps or more, but steps=1 was requested"):
        open_upscaler(name, scale=4, diffusion={"steps": 1})


def test_images_smaller_than_a_tile_and_of_odd_sizes(folder):
    for height, width in ((16, 16), (33, 35)):
        output = restored("stablesr", image(0, height, width), SMALL | {"steps": 2})
        assert output.shape == (4 * height, 4 * width, 3)


def test_the_settings_change_the_image_and_belong_to_the_row(folder):
    outputs, jobs = set(), [Job(image(0, 32, 32), "", (32, 32), (0, 0, 0))]
    for settings in ({}, {"cfw": 0.0}, {"color_fix": "none"}, {"seed": 3}, {"guidance": 3.0, "negative_prompt": "blur"}):
        upscaler = open_upscaler("stablesr", scale=4, diffusion=SMALL | {"steps": 2} | settings)
        assert upscaler.settings()["diffusion"].items() >= settings.items()
        outputs.add(upscaler.upscale(jobs)[0].tobytes())
    assert len(outputs) == 5


def test_a_prompt_needs_the_tokenizer_which_is_in_the_list_of_files(copied):
    wanted = {file.name for file in ZOO["stablesr"].all_files}
    assert {"sd2.1-base/tokenizer/vocab.json", "sd2.1-base/tokenizer/merges.txt"} <= wanted
    shutil.rmtree(copied / "sd2.1-base")
    digest = open_upscaler("stablesr", scale=4, diffusion=SMALL).digest  # without a prompt it is not needed
    with pytest.raises(UserError, match=r"'blur' needs a CLIP tokenizer.*\n.*fgr models NAME --fetch"):
        open_upscaler("stablesr", scale=4, diffusion=SMALL | {"guidance": 3.0, "negative_prompt": "blur"})
    tokenizer(copied / "sd2.1-base" / "tokenizer")
    assert open_upscaler("stablesr", scale=4, diffusion=SMALL).digest == digest


@pytest.mark.parametrize(("name", "steps"), [("stablesr", 2), ("stablesr-turbo", None)])
def test_a_dataset_of_it_verifies_and_replays_once_its_licence_is_accepted(dataset_of, recipe_of, tmp_path, name, steps):
    settings = SMALL | {"steps": steps}
    with pytest.raises(UserError, match=rf"'{name}' is under S-Lab-1.0, which allows non-commercial use only"):
        run.generate(recipe_of(name, settings), tmp_path / "out", workers=1, device="cpu")
    made = dataset_of(name, settings, accept_license=[name])
    assert list(replay(made, 1, "cpu")) == [None]
    for row in tables.read_rows(made, "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["steps"] == (steps or 4)


def test_a_checkpoint_in_the_wrong_slot_is_refused_by_what_it_lacks(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(folder / WRAPPED, tmp_path / MAIN)
    shutil.copy(folder / WRAPPED, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"000117.ckpt is not StableSR's main checkpoint .* no tensor structcond_stage_model"):
        open_upscaler("stablesr", scale=4)
    shutil.copy(folder / MAIN, tmp_path / MAIN)
    shutil.copy(folder / MAIN, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"00011.ckpt is not StableSR's autoencoder with CFW .* no tensor decoder.fusion_layer_"):
        open_upscaler("stablesr", scale=4)


def test_a_checkpoint_with_a_tensor_too_few_or_too_many_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    shutil.copy(folder / MAIN, tmp_path / MAIN)
    state = torch.load(folder / WRAPPED, weights_only=True)["state_dict"]
    torch.save({name: one for name, one in state.items() if "fusion_layer_2.encode_enc_3.conv1" not in name}, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"CFW blocks: tensors 2 missing \(first fusion_layer_2.encode_enc_3.conv1.bias\)"):
        open_upscaler("stablesr", scale=4)
    torch.save(state | {"encoder.extra.weight": torch.zeros(2)}, tmp_path / WRAPPED)
    with pytest.raises(UserError, match=r"an autoencoder of Stable Diffusion: tensors 1 unknown \(first encoder.extra.weight\)"):
        open_upscaler("stablesr", scale=4, diffusion=SMALL)


def test_latent_tiles_must_be_larger_than_what_they_share(folder):
    with pytest.raises(UserError, match="Latent tiles of 16 cannot overlap by 16"):
        open_upscaler("stablesr", scale=4, diffusion={"latent_tile": 16, "latent_overlap": 16})
