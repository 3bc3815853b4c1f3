"""Diffusion policies on small random weights in the official layouts, and every algorithm on a toy with a known best answer."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from small_diffusion import image, ldm_sr, osediff, sd_x4, stablesr

import fgr
from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.recipe.sampling import Sampling
from fgr.rlhf import dpo, grpo, pathwise
from fgr.rlhf.algorithms import open_tuned
from fgr.rlhf.denoisers import Begun
from fgr.rlhf.diffusion_policy import DiffusionPolicy, open_diffusion_policy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.pairs import Ranked
from fgr.rlhf.reward import Reward
from fgr.rlhf.run import tune
from fgr.sr import Job, check_name, license_of, open_upscaler
from fgr.sr.diffusion.osediff import OSEDiff
from fgr.training import directory as runs

STEPS = {"steps": 3}
FEW = Sampling(**STEPS)
KNOBS = {
    "sd-x4-upscaler": STEPS, "ldm-sr": STEPS, "osediff": {}, "stablesr": STEPS | {"latent_tile": 16, "latent_overlap": 8},
}  # fmt: skip
NAMES = ("sd-x4-upscaler", "ldm-sr", "osediff")  # sampled in tuning as the upscaler samples
LOW, TOY_LOW = (torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) for side in (16, 8))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    sd_x4(folder / "sd-x4-upscaler")
    ldm_sr(folder / "ldm-sr")
    stablesr(folder)
    osediff(folder)
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(made))
    monkeypatch.setattr(OSEDiff, "least", 128)  # the small networks need not see 512 pixels
    torch.set_num_threads(1)
    return made


def restored(name, pixels):
    upscaler = open_upscaler(name, scale=4, diffusion=KNOBS[name.partition("+")[0]])
    return upscaler.upscale([Job(pixels, "", pixels.shape[:2], (0, 0, 0))])[0]


def moved(policy):
    """The policy with learning tensors that are not those it began with."""
    generator = torch.Generator().manual_seed(1)
    policy.put({name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in policy.learned().items()})
    return policy


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_what_the_upscaler_gives(folder, name):
    policy = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    policy.learn_lora(2, 4)
    pixels = image(0, 16, 13)
    low = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    found = (policy.start(low)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.abs(found - restored(name, pixels)).max() <= 1
    assert torch.equal(policy(low), policy.start(low))


@pytest.mark.parametrize("name", NAMES)
def test_the_lora_file_makes_the_upscaler_give_the_policys_samples(folder, name, tmp_path):
    policy = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    policy.learn_lora(2, 4)
    start = policy.start(LOW)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    assert not torch.allclose(policy(LOW), start, atol=0.01)
    policy.save(tmp_path / "best.safetensors", step="1")
    pixels = image(0)
    low = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    wanted = (policy(low)[0].permute(1, 2, 0) * 255).round().detach().numpy()
    assert np.abs(restored(f"{name}+lora:{tmp_path / 'best.safetensors'}", pixels) - wanted).max() <= 1
    assert np.abs(restored(name, pixels) - wanted).max() > 1


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("sd-x4-upscaler", lambda denoiser, **file: denoiser._pipeline.load_lora_weights(**file)),
        ("osediff", lambda denoiser, **file: denoiser.unet.load_lora_adapter(**file, prefix="unet")),
    ],
)
def test_diffusers_itself_reads_the_lora_file(folder, tmp_path, name, load):
    policy = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    policy.learn_lora(2, 4)
    moved(policy).save(tmp_path / "best.safetensors")
    other = open_diffusion_policy(name, Sampling(**KNOBS[name]))
    load(other.denoiser, pretrained_model_name_or_path_or_dict=str(tmp_path), weight_name="best.safetensors")
    assert torch.allclose(other(LOW), policy(LOW), atol=1e-4)


def test_stablesr_is_sampled_by_ddim_on_its_own_networks(folder, tmp_path):
    knobs = KNOBS["stablesr"]
    policy = open_diffusion_policy("stablesr", Sampling(**knobs))
    restorer = open_upscaler("stablesr", scale=4, diffusion=knobs).restorer
    times = [int(time) for time in policy.times]
    begun = policy.begin(LOW, policy.sources(LOW, 0))
    with torch.inference_mode():
        known = begun.condition["known"]
        wanted = restorer._predicted(begun.latents, known, times[0])
        assert torch.allclose(policy.predict(begun.latents, 0, begun), wanted, atol=1e-4)
        assert policy.denoiser.scheduler.alphas_cumprod[times[0]] == pytest.approx(restorer._chain._all[times[0]], rel=1e-5)
    policy.learn_lora(2, 4)
    start = policy.start(LOW)
    assert start.shape == (2, 3, 64, 64)
    moved(policy)
    assert torch.equal(policy.start(LOW), start)
    policy.save(tmp_path / "best.safetensors")
    name = f"stablesr+lora:{tmp_path / 'best.safetensors'}"
    outputs = [
        open_upscaler(one, scale=4, diffusion=knobs).upscale([Job(image(0), "", (64, 64), (0, 0, 64))])[0]
        for one in ("stablesr", name)
    ]
    assert np.abs(outputs[0].astype(int) - outputs[1]).max() > 5


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: {key: value for key, value in state.items() if "lora_A" in key}, "is no LoRA file"),
        (lambda state: {f"{key.replace('to_q', 'to_z')}": value for key, value in state.items()}, "is not in the UNet"),
        (
            lambda state: {key: value[:, :1] if "lora_A" in key else value for key, value in state.items()},
            "has another size there",
        ),
    ],
)
def test_a_lora_file_that_does_not_fit_is_named(folder, tmp_path, spoil, said):
    from safetensors.torch import save_file

    policy = open_diffusion_policy("sd-x4-upscaler", FEW)
    policy.learn_lora(2, 4)
    policy.save(tmp_path / "good.safetensors")
    state = {key: value.contiguous() for key, value in spoil(load_file(tmp_path / "good.safetensors")).items()}
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=said):
        open_upscaler(f"sd-x4-upscaler+lora:{tmp_path / 'bad.safetensors'}", scale=4)


def test_a_lora_of_another_base_is_refused(folder, tmp_path):
    policy = open_diffusion_policy("sd-x4-upscaler", FEW)
    policy.learn_lora(2, 4)
    policy.save(tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="was tuned on 'sd-x4-upscaler'"):
        open_upscaler(f"ldm-sr+lora:{tmp_path / 'lora.safetensors'}", scale=4)
    policy.digest = "0" * 64
    policy.save(tmp_path / "lora.safetensors")
    with pytest.raises(UserError, match="was tuned on other weights of 'sd-x4-upscaler'"):
        open_upscaler(f"sd-x4-upscaler+lora:{tmp_path / 'lora.safetensors'}", scale=4)


def test_names_with_low_rank_changes():
    check_name("sd-x4-upscaler+lora:best.safetensors")
    assert license_of("sd-x4-upscaler+lora:best.safetensors") == license_of("sd-x4-upscaler")
    for name in ("realesrgan+lora:best.safetensors", "ldm-sr+lora:"):
        with pytest.raises(UserError, match="names no diffusion model with low-rank changes"):
            check_name(name)


@pytest.mark.parametrize(
    ("name", "algorithm", "said"),
    [
        ("ldm-sr", "direct", "through its whole sampling"),
        ("bicubic", "grpo", "grpo tunes diffusion models, and 'bicubic' is none"),
        ("osediff", "draft-lv", r"begins with the input's latent, never with noise.\n.*algorithm.name=refl or draft\."),
        ("osediff", "grpo", "it needs stochastic steps, and OSEDiff has one step, which is not"),
        ("osediff", "dpo", "it compares errors at random times under noise, and OSEDiff is only ever asked at one"),
        ("seesr", "refl", "'seesr' cannot be tuned: its sampling has not been taken apart"),
    ],
)
def test_an_algorithm_of_the_other_kind_of_policy_is_refused(folder, name, algorithm, said):
    with pytest.raises(UserError, match=said):
        open_tuned(name, algorithm, (), FEW)


def test_sampling_in_one_step_leaves_grpo_nothing_to_draw(folder):
    with pytest.raises(UserError, match="samples in 1 step: none of it is stochastic"):
        open_tuned("ldm-sr", "grpo", (), Sampling(steps=1))


# A toy: the network predicts x_0 by a 1×1 convolution of noise and input; the best image is of one grey.


class ToyDenoiser:
    """A latent is one colour in [−1, 1], the image's mean; the network is a 1×1 convolution of noise and colour."""

    multiple = 8

    def __init__(self):
        torch.manual_seed(0)
        self.unet = torch.nn.Sequential(torch.nn.Conv2d(6, 3, 1))
        torch.nn.init.normal_(self.unet[0].weight, std=0.3)
        torch.nn.init.constant_(self.unet[0].bias, -0.5)
        self.scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False)

    def begin(self, low, sources):
        noise = torch.cat([torch.randn(1, 3, 1, 1, generator=source) for source in sources])
        return Begun(noise, {"colour": low.mean((2, 3), keepdim=True), "size": low.shape[-2:]})

    def predict(self, latents, time, condition):
        return self.unet(torch.cat([latents, condition["colour"]], 1))

    def decode(self, latents, condition):
        return torch.nn.functional.interpolate(latents, scale_factor=32) / 2 + 0.5

    def encode(self, images):
        return images.mean((2, 3), keepdim=True) * 2 - 1


def toy(steps=6):
    policy = DiffusionPolicy("toy", ToyDenoiser(), steps, "0", "none")
    torch.manual_seed(0)
    policy.learn_lora(2, 2)
    return policy


def grey_reward(target=0.7):
    """Largest for images that are of one grey everywhere."""
    found = Reward("grey", lambda images: [-(images - target).square().mean((1, 2, 3))], {"grey": 1.0})
    found.mean, found.sd, found.weight = torch.tensor([-0.1]), torch.tensor([0.05]), 1.0
    return found


def climbed(algorithm, policy, steps, lr, batch=4):
    """The mean reward of samples before and after `steps` steps of Adam."""
    optimizer = torch.optim.Adam(policy.learned().values(), lr=lr)
    reward, generator = algorithm.rewards[0], torch.Generator().manual_seed(3)
    held_out = torch.rand(8, 3, 8, 8, generator=generator)
    before = float(reward.value(policy(held_out)).mean())

    def update():
        optimizer.step()
        optimizer.zero_grad()

    for number in range(steps):
        low = torch.rand(batch, 3, 8, 8, generator=generator)
        good, bad = torch.full((batch, 3, 32, 32), 0.7), torch.full((batch, 3, 32, 32), 0.2)
        algorithm.step(policy, Batch(low, good, bad, number), 0, 1.0, lambda loss: loss.backward(), update)
        update()
    return before, float(reward.value(policy(held_out)).mean())


ALGORITHMS = {
    "refl": lambda policy, rewards: pathwise.Pathwise(policy, rewards, "refl", pathwise.Knobs(hinge=None)),
    "refl, endpoint": lambda policy, rewards: pathwise.Pathwise(
        policy, rewards, "refl", pathwise.Knobs(hinge=None, endpoint=True)
    ),
    "draft": lambda policy, rewards: pathwise.Pathwise(policy, rewards, "draft", pathwise.Knobs(hinge=None, last=2)),
    "draft-lv": lambda policy, rewards: pathwise.Pathwise(policy, rewards, "draft-lv", pathwise.Knobs(hinge=None)),
    "grpo": lambda policy, rewards: grpo.Grpo(policy, rewards, grpo.Knobs(group=16, beta=0.0, clip=0.2)),
    "grpo, window": lambda policy, rewards: grpo.Grpo(
        policy, rewards, grpo.Knobs(group=16, beta=0.0, clip=0.2, window=2, window_every=5, updates=2)
    ),
    "dpo, samples": lambda policy, rewards: dpo.Dpo(policy, rewards, dpo.Knobs(pairs="samples", beta=50, samples=6, top=2)),
    "dpo, triplets": lambda policy, rewards: dpo.Dpo(policy, rewards, dpo.Knobs(pairs="triplets", beta=5)),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_finds_the_toys_best_answer(name):
    policy = toy()
    before, after = climbed(ALGORITHMS[name](policy, [grey_reward()]), policy, 100, 0.01)
    best = 0.1 / 0.05  # no deviation from the grey
    assert before < 0.5 * best
    assert after > before + 0.7 * (best - before)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_what_learns_gets_a_gradient(name):
    policy = toy()
    frozen = {key: value.clone() for key, value in policy.network.state_dict().items() if "lora" not in key}
    climbed(ALGORITHMS[name](policy, [grey_reward()]), policy, 2, 0.05)
    assert all(torch.equal(value, policy.network.state_dict()[key]) for key, value in frozen.items())
    assert all(value.grad is None for key, value in policy.network.named_parameters() if "lora" not in key)


def test_recomputed_log_probabilities_are_the_sampled_ones_and_ratios_begin_at_one():
    policy = moved(toy())
    algorithm = grpo.Grpo(policy, [grey_reward()], grpo.Knobs(group=4, beta=1.0))
    rollout, _ = algorithm.rollout(Batch(TOY_LOW, None, None, 3), 0, 1.0)
    assert sorted(rollout.before) == [0, 1, 2, 3, 4]
    for index, old in rollout.log_prob.items():
        step = policy.step(rollout.before[index], index, rollout.begun, 1.0)
        assert torch.allclose(grpo.sampling.log_prob(rollout.after[index], step), old, atol=1e-5)
        _, figures = algorithm.loss(rollout, index)
        assert figures["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert figures["kl"] > 0


def test_members_of_a_group_share_their_first_noise_only_if_asked_to():
    for shared in (True, False):
        algorithm = grpo.Grpo(toy(), [grey_reward()], grpo.Knobs(group=2, shared_noise=shared))
        rollout, _ = algorithm.rollout(Batch(TOY_LOW, None), 0, 1.0)
        assert torch.equal(rollout.begun.latents[0], rollout.begun.latents[1]) is shared
        assert not torch.equal(rollout.images[0], rollout.images[1])


def test_dense_advantages_have_a_value_a_place_and_fall_where_the_map_is_high(folder):
    def maps(images):
        map_ = torch.zeros_like(images[:, :1])
        map_[::2, :, :32] = 1  # of every other sample, the upper half is bad
        return map_

    policy = open_diffusion_policy("ldm-sr", FEW)
    policy.learn_lora(2, 2)
    algorithm = grpo.Grpo(policy, [grey_reward()], grpo.Knobs(group=2, dense=True), lambda stage: maps)
    rollout, _ = algorithm.rollout(Batch(LOW, None), 0, 1.0)
    assert rollout.advantage.shape == (4, 16, 16)
    gap = rollout.advantage[0] - rollout.advantage[1]
    assert gap[0, 0] < gap[15, 0]
    algorithm.loss(rollout, 0)[0].backward()


def test_a_hinge_lets_go_of_images_that_are_good_enough():
    policy = toy()
    algorithm = pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(hinge=-100.0))
    algorithm.step(policy, Batch(TOY_LOW, None), 0, 1.0, lambda loss: loss.backward(), lambda: None)
    assert all(float(value.grad.abs().max()) == 0 for value in policy.learned().values())


def test_the_anchor_holds_predictions_to_those_of_the_start():
    distances = []
    for anchor in (0.0, 100.0):
        policy = toy()
        climbed(pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(hinge=None, anchor=anchor)), policy, 40, 0.02)
        distances.append(float((policy(TOY_LOW) - policy.start(TOY_LOW)).abs().mean()))
    assert distances[1] < 0.5 * distances[0]


def test_the_low_frequency_loss_pulls_early_predictions_to_the_reference():
    policy = toy()
    knobs = pathwise.Knobs(hinge=-100.0, low_frequency=1.0)  # the reward lets go: only the low-frequency loss is left
    before, after = climbed(pathwise.Pathwise(policy, [grey_reward()], "refl", knobs), policy, 80, 0.02)
    assert after > before + 0.5


@pytest.mark.parametrize("steps", [1, 3])
def test_the_late_step_is_one_that_there_is_and_the_early_one_not_after_it(steps):
    policy, reference = toy(steps), torch.full((2, 3, 32, 32), 0.7)
    algorithm = pathwise.Pathwise(policy, [grey_reward()], "refl", pathwise.Knobs(late=(0.9, 1.0), early=1.0, low_frequency=1.0))
    for number in range(8):
        batch = Batch(TOY_LOW, reference, None, number)
        figures = algorithm.step(policy, batch, 0, 1.0, lambda loss: loss.backward(), lambda: None)
        assert figures["denoising_step"] == steps - 1
        assert figures["low_frequency"] > 0


def test_memory_of_draft_is_bound_by_its_last_steps():
    kept = []
    for last in (1, 3):
        policy, sizes = toy(), []
        algorithm = pathwise.Pathwise(policy, [grey_reward()], "draft", pathwise.Knobs(last=last))
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            algorithm.step(policy, Batch(TOY_LOW, None), 0, 1.0, lambda loss: None, lambda: None)
        kept.append(sum(sizes))
    assert kept[0] < kept[1]


# Runs.

SMALL = (
    "policy={train: lora, lora_rank: 2}", "sampling.steps=3", "data={crop: 16, batch: 2}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 1}", "reward.reference_images=2",
    "training={steps: 4, lr: 1.0e-3, warmup: 1, checkpoint_every: 2}", "curriculum={schedule: blend, blend_steps: 1}",
)  # fmt: skip
RECIPE = (
    "policy.lora_rank=2", "sampling.steps=3", "data={crop: 16, batch: 2}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 1}", "reward.reference_images=2",
    "training={steps: 4, lr: 1.0e-3, warmup: 1, checkpoint_every: 2}", "curriculum={schedule: blend, blend_steps: 1}",
)  # fmt: skip
UNBOUND = "algorithm.hinge=null"  # how good a random reward model thinks an image is beyond what a hinge lets go of is chance
CASES = {  # recipe, generator, what is small here
    "refl": ("refl-sd-x4", "sd-x4-upscaler", [UNBOUND]),
    "draft-lv": ("refl-sd-x4", "ldm-sr", [UNBOUND, "algorithm.name=draft-lv"]),
    "grpo": ("grpo-ldm-sr", "ldm-sr", ["algorithm.group=2", "algorithm.window=1"]),
    "stablesr": ("ccl-stablesr", "stablesr", [UNBOUND, "sampling.latent_tile=16", "sampling.latent_overlap=8"]),
    "dpo": ("dpo-triplets", "sd-x4-upscaler", []),
    "dpo, samples": ("dpo-triplets", "ldm-sr", ["algorithm={name: dpo, pairs: samples, samples: 2, top: 1}"]),
    "osediff": ("refl-sd-x4", "osediff", [UNBOUND, "sampling.steps=1"]),
    "osediff, draft": ("refl-sd-x4", "osediff", [UNBOUND, "sampling.steps=1", "algorithm.name=draft"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_key_changes_the_algorithm_under_the_curriculum_with_the_audit_on(folder, reward_run, tiny, tmp_path, case):
    shipped, name, overrides = CASES[case]
    recipe = recipes.load(shipped, "rlhf", [*RECIPE, *overrides])
    found = tune(recipe, name, str(reward_run), str(tiny), tmp_path / "run", "cpu")
    lines = runs.metrics(tmp_path / "run")
    steps = [line for line in lines if line["split"] == "train"]
    assert [line["stage"] for line in steps] == [0, 1, 2, 2]
    assert all(math.isfinite(line["norm"]) and line["norm"] > 0 for line in steps)
    assert [line["step"] for line in lines if line["split"] == "audit"] == [0, 2, 4]
    assert found["steps"] == 4
    out = restored(f"{name}+lora:{tmp_path / 'run' / 'last.safetensors'}", image(0))
    assert out.shape == (64, 64, 3)


def test_a_diffusion_run_resumes_to_the_same_numbers(folder, reward_run, tiny, tmp_path, monkeypatch):
    from fgr.rlhf.loop import Loop

    recipe = recipes.load("demo", "rlhf", [*SMALL, "algorithm={name: grpo, group: 2, updates: 2}"])
    sources = ("ldm-sr", str(reward_run), str(tiny))
    tune(recipe, *sources, tmp_path / "whole", "cpu")
    step = Loop._step

    def interrupted(self, source):
        if self.state.step == 3:
            raise KeyboardInterrupt
        step(self, source)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, *sources, tmp_path / "run", "cpu")
    monkeypatch.setattr(Loop, "_step", step)
    tune(recipe, *sources, tmp_path / "run", "cpu")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_only_low_rank_changes_of_a_diffusion_model_are_tuned(folder, reward_run, tiny, tmp_path):
    recipe = recipes.load("demo", "rlhf", [*SMALL, "policy.train=all", "algorithm.name=refl"])
    with pytest.raises(UserError, match="only low-rank changes are tuned"):
        tune(recipe, "ldm-sr", str(reward_run), str(tiny), tmp_path / "run", "cpu")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("algorithm={name: grpo, group: 1}", "no advantage over itself"),
        ("algorithm={name: dpo, pairs: samples, samples: 4, top: 3}", "overlap"),
        ("algorithm={name: refl, late: [0.9, 0.1]}", "the lower first"),
    ],
)
def test_knobs_of_algorithms_that_cannot_be_are_named(key, said):
    with pytest.raises(UserError, match=said):
        recipes.load("demo", "rlhf", [key])


def test_triplets_pair_reference_composite_and_sr_image_of_one_input(tiny):
    pairs, rows = Ranked("triplets", str(tiny), "train", 4), fgr.load_samples(tiny, "train")
    local = sum(row["mask_kind"] not in ("full", "sham") for row in rows)
    assert len(pairs) == len(rows) + 2 * local
    low, winner, loser = pairs[0]
    assert low.shape == (32, 32, 3)
    assert np.array_equal(winner, rows[0]["reference"])
    assert np.array_equal(loser, rows[0]["sr"])
    with pytest.raises(UserError, match="not of scale ×2"):
        Ranked("triplets", str(tiny), "train", 2)


def test_preferences_count_where_both_images_are_of_one_input(tiny, tmp_path):
    import shutil

    from fgr.dataset import tables

    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    with pytest.raises(UserError, match="no pairs of the kind preferences"):
        Ranked("preferences", str(data), "train", 4)
    rows = list(fgr.load_samples(data, "train", ["id", "source_id", "degradation"]))
    first = rows[0]
    same = next(row for row in rows[1:] if (row["source_id"], row["degradation"]) == (first["source_id"], first["degradation"]))
    other = next(row for row in rows if row["source_id"] != first["source_id"])
    written = [(first, same, "right"), (first, other, "left"), (same, first, "tie")]
    table = [
        {"left_id": left["id"], "right_id": right["id"], "annotator": "a", "choice": choice, "comment": "", "lead_time_s": 1.0}
        for left, right, choice in written
    ]  # fmt: skip
    tables.write_small(data, "preferences", table)
    pairs = Ranked("preferences", str(data), "train", 4)
    assert len(pairs) == 1
    samples = {row["id"]: row["composite"] for row in fgr.load_samples(data, "train", ["id", "composite"])}
    assert np.array_equal(pairs[0][1], samples[same["id"]])
    assert np.array_equal(pairs[0][2], samples[first["id"]])
