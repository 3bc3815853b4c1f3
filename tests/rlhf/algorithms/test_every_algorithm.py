"""Every algorithm on a toy with a known best answer, and runs of each."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file
from small_diffusion import image, restored
from small_rlhf import interrupted_after
from toy_diffusion import BEST, grey_reward, optimized, toy, training_step

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.recipe.algorithms import DpoSettings, DraftLvSettings, DraftSettings, GrpoSettings, ReflSettings
from fgr.rlhf.algorithms.dpo import Dpo
from fgr.rlhf.algorithms.grpo import Grpo
from fgr.rlhf.algorithms.pathwise import Pathwise
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch
from fgr.rlhf.run import tune
from fgr.training import directory as runs

MODELS = ("sd-x4-upscaler", "ldm-sr", "stablesr", "osediff")
SETTINGS = {
    "sd-x4-upscaler": {"steps": 3}, "ldm-sr": {"steps": 3}, "osediff": {},
    "stablesr": {"steps": 3, "latent_tile": 16, "latent_overlap": 8},
}  # fmt: skip
ALGORITHMS = {
    "refl": lambda policy, rewards: Pathwise(policy, rewards, ReflSettings(name="refl", hinge=None)),
    "refl, endpoint": lambda policy, rewards: Pathwise(policy, rewards, ReflSettings(name="refl", hinge=None, endpoint=True)),
    "draft": lambda policy, rewards: Pathwise(policy, rewards, DraftSettings(name="draft", hinge=None, last=2)),
    "draft-lv": lambda policy, rewards: Pathwise(policy, rewards, DraftLvSettings(name="draft-lv", hinge=None)),
    "grpo": lambda policy, rewards: Grpo(policy, rewards, GrpoSettings(name="grpo", group=16, beta=0.0, clip=0.2)),
    "grpo, window": lambda policy, rewards: Grpo(
        policy, rewards, GrpoSettings(name="grpo", group=16, beta=0.0, clip=0.2, window=2, window_every=5, updates=2)
    ),
    "dpo, samples": lambda policy, rewards: Dpo(
        policy, rewards, DpoSettings(name="dpo", pairs="samples", beta=50, samples=6, top=2)
    ),
    "dpo, triplets": lambda policy, rewards: Dpo(policy, rewards, DpoSettings(name="dpo", pairs="triplets", beta=5)),
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_finds_the_toys_best_answer(name):
    policy = toy()
    before, after = optimized(ALGORITHMS[name](policy, [grey_reward()]), policy, 100, 0.01)
    assert before < 0.5 * BEST
    assert after > before + 0.7 * (BEST - before)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_only_what_learns_gets_a_gradient(name):
    policy = toy()
    frozen = {key: value.clone() for key, value in policy.network.state_dict().items() if "lora" not in key}
    optimized(ALGORITHMS[name](policy, [grey_reward()]), policy, 2, 0.05)
    assert all(torch.equal(value, policy.network.state_dict()[key]) for key, value in frozen.items())
    assert all(value.grad is None for key, value in policy.network.named_parameters() if "lora" not in key)


PARTED = {  # what draws noise for a batch, or compares its images with one another
    "draft-lv": lambda policy, gather: Pathwise(policy, [grey_reward()], DraftLvSettings(name="draft-lv", hinge=None)),
    "grpo": lambda policy, gather: Grpo(
        policy, [grey_reward()], GrpoSettings(name="grpo", group=4, clip=0.2, dense=True), gather=gather,
        maps=lambda stage: lambda images: images.mean(1, keepdim=True),
    ),
    "dpo": lambda policy, gather: Dpo(
        policy, [grey_reward()], DpoSettings(name="dpo", pairs="samples", beta=50, samples=4, top=2), gather=gather
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTED)
def test_two_processes_have_the_gradient_of_one_with_twice_the_batch(name):
    low = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    policies, meeting, told = [toy() for _ in range(3)], threading.Barrier(2, timeout=60), [low, low]

    def gradient(policy, batch, gather):
        PARTED[name](policy, gather).step(batch, training_step(policy))
        return torch.cat([value.grad.flatten() for value in policy.learned().values()])

    def part(rank):
        def gather(values):
            told[rank] = values
            meeting.wait()
            joined = torch.cat(told)
            meeting.wait()
            return joined

        return gradient(policies[rank], Batch(low[2 * rank : 2 * rank + 2], None, None, 5, (rank, 2)), gather)

    whole = gradient(policies[2], Batch(low, None, None, 5), lambda values: values)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(part, (0, 1))
    assert ((first + second) / 2 - whole).norm() < 1e-4 * whole.norm()
    assert (first - second).norm() > 0.01 * whole.norm()


SMALL = (
    "policy={train: lora, lora_rank: 2}", "sampling.steps=3", "data={crop: 16, batch: 2}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 1, at_hand: false, planted: 0}", "reward.reference_images=2",
    "training={steps: 4, lr: 1.0e-3, warmup: 1, checkpoint_every: 2}", "curriculum={schedule: blend, blend_steps: 1}",
)  # fmt: skip
RECIPE = (
    "policy.lora_rank=2", "sampling.steps=3", "data={crop: 16, batch: 2}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 1, at_hand: false, planted: 0}", "reward.reference_images=2",
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
    out = restored(f"{name}+lora:{tmp_path / 'run' / 'last.safetensors'}", image(0), SETTINGS[name])
    assert out.shape == (64, 64, 3)


def test_a_diffusion_run_resumes_to_the_same_numbers(folder, reward_run, tiny, tmp_path, monkeypatch):
    recipe = recipes.load("demo", "rlhf", [*SMALL, "algorithm={name: grpo, group: 2, updates: 2}"])
    sources = ("ldm-sr", str(reward_run), str(tiny))
    tune(recipe, *sources, tmp_path / "whole", "cpu")
    with interrupted_after(monkeypatch, 3), pytest.raises(KeyboardInterrupt):
        tune(recipe, *sources, tmp_path / "run", "cpu")
    tune(recipe, *sources, tmp_path / "run", "cpu")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_model_that_passes_no_gradient_is_refused_before_the_first_step(folder, reward_run, tiny, tmp_path, monkeypatch):
    predict = DiffusionPolicy.predict_at
    monkeypatch.setattr(DiffusionPolicy, "predict_at", lambda *inputs: predict(*inputs).detach())
    with pytest.raises(UserError, match=r"^ldm-sr passes no gradient to"):
        tune(
            recipes.load("demo", "rlhf", [*SMALL, "algorithm={name: refl}"]),
            "ldm-sr",
            str(reward_run),
            str(tiny),
            tmp_path / "run",
            "cpu",
        )
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
