"""The larger rows of `bench.device`: a diffusion model of real size and RL steps on it, the reward model, tuning runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.device import Bench, Figures, Found

SHIPPED = "fgr-lite"  # the reward model
SIDE_BY_SIDE = 9


def diffusion(bench: "Bench") -> "Found":
    """sd-x4-upscaler with random weights of real size, by precision and batch."""
    import numpy as np

    from fgr.sr import Job, open_upscaler

    x4_upscaler(bench)
    side, steps = (16, 2) if bench.small else (128, 25)
    rng = np.random.default_rng(0)
    for precision, batch in (("fp32", 1), ("tf32", 1), ("bf16", 1), ("bf16", 8)):
        if bench.small and (precision, batch) not in {("fp32", 1), ("bf16", 1)}:
            continue
        bench.forget()
        jobs = [Job(rng.integers(0, 256, (side, side, 3), np.uint8), "", (side, side), (0, 0, side)) for _ in range(batch)]
        sampling = {"steps": steps, "guidance": 1.0}
        upscaler = open_upscaler(
            "sd-x4-upscaler", scale=4, device=bench.device, precision=precision, batch=batch, diffusion=sampling
        )
        seconds = bench.seconds(lambda upscaler=upscaler, jobs=jobs: upscaler.upscale(jobs), 1) / batch  # type: ignore[misc]
        figures: Figures = {"s_per_image": round(seconds, 3), "peak_gb": round(bench.peak(), 2)}
        del upscaler
        yield f"sd-x4-upscaler, {side} → {4 * side}, {steps} steps, {precision}, batch {batch}", figures


def x4_upscaler(bench: "Bench") -> None:
    from bench.random_weights import sd_x4_upscaler

    folder = bench.folder / "weights"
    if not (folder / "sd-x4-upscaler").is_dir():
        sd_x4_upscaler(folder / "sd-x4-upscaler", real=not bench.small, device=bench.device)
    os.environ["FGR_WEIGHTS"] = str(folder)


def rl_steps(bench: "Bench") -> "Found":
    """A step of each algorithm on sd-x4-upscaler: seconds and peak memory by K and batch."""
    import torch

    from fgr.recipe.rlhf import Policy as PolicySettings
    from fgr.recipe.rlhf import Reward as RewardSettings
    from fgr.recipe.sampling import Sampling
    from fgr.reward.pretrained import load_stages
    from fgr.rlhf.algorithms.interface import TrainingStep
    from fgr.rlhf.diffusion_policy import DiffusionPolicy
    from fgr.rlhf.inputs import Batch
    from fgr.rlhf.policies import open_policy
    from fgr.rlhf.trained_reward import stage_reward
    from fgr.sr import parse_name

    x4_upscaler(bench)
    side, steps = (16, 2) if bench.small else (64, 10 if bench.quick else 40)
    policy = open_policy(parse_name("sd-x4-upscaler"), "draft", sampling=Sampling(steps=steps, guidance=1.0))
    policy.learn(PolicySettings(train="lora", lora_rank=32, lora_alpha=32, checkpoint_blocks=True))
    policy.to(bench.device)
    assert isinstance(policy, DiffusionPolicy)
    found = stage_reward(load_stages(SHIPPED, bench.device)[-1].requires_grad_(False), RewardSettings())
    found.weight = 1.0

    def autocast() -> Any:
        return torch.autocast(torch.device(bench.device).type, torch.bfloat16)

    at = TrainingStep(policy, 0, 1.0, lambda loss: loss.backward(), lambda: None)
    for what, number, open_one in _algorithms(bench.small):
        algorithm = open_one(policy, [found], autocast)
        low = torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(0))
        batch = Batch(low, None).to(torch.device(bench.device))
        bench.forget()
        seconds = bench.seconds(lambda algorithm=algorithm, batch=batch: algorithm.step(batch, at), 1)  # type: ignore[misc]
        yield (
            f"{what}, {side} → {4 * side}, {steps} steps, bf16",
            {"s_per_step": round(seconds, 2), "peak_gb": round(bench.peak(), 2)},
        )
        policy.zero_grad()


def _algorithms(small: bool) -> Iterator[tuple[str, int, Callable[..., Any]]]:
    """What each case is called, its batch, and what opens it for a policy, rewards and autocast."""
    from fgr.recipe.algorithms import DpoSettings, DraftSettings, GrpoSettings, ReflSettings
    from fgr.rlhf.algorithms.dpo import Dpo
    from fgr.rlhf.algorithms.grpo import Grpo
    from fgr.rlhf.algorithms.pathwise import Pathwise

    for batch in (1,) if small else (1, 4):
        refl = ReflSettings(name="refl", hinge=None)
        yield f"refl, batch {batch}", batch, lambda policy, rewards, cast, refl=refl: Pathwise(policy, rewards, refl, 0, cast)  # type: ignore[misc]
    for last in (1,) if small else (1, 2, 4, 8):
        draft = DraftSettings(name="draft", last=last, hinge=None)
        yield f"draft, K {last}, batch 1", 1, lambda policy, rewards, cast, draft=draft: Pathwise(policy, rewards, draft, 0, cast)  # type: ignore[misc]
    grpo = GrpoSettings(name="grpo", group=2 if small else 8, window=1 if small else 4)
    yield f"grpo, group of {grpo.group}", 1, lambda policy, rewards, cast: Grpo(policy, rewards, grpo, autocast=cast)
    dpo = DpoSettings(name="dpo", pairs="samples", samples=2 if small else 4, top=1)
    yield f"dpo, {dpo.samples} samples", 1, lambda policy, rewards, cast: Dpo(policy, rewards, dpo, autocast=cast)


def reward_model(bench: "Bench") -> "Found":
    """`fgr train-rm` with the lite0 encoder (small: a tiny one): seconds a step, and the share of them that it waits."""
    from fgr import recipe as recipes
    from fgr.reward.run import train_reward_model

    data = _dataset(bench)
    steps, crop = (6, 64) if bench.small else (60 if bench.quick else 240, 192)
    overrides = [
        f"base.steps={steps}", f"stages=[{steps // 2}, {steps // 2}]", f"data.crop={crop}", f"training.validate_every={steps}",
        f"data.batch={2 if bench.small else 16}", f"data.workers={0 if bench.small else min(8, os.cpu_count() or 1)}",
        f"training.precision={'no' if bench.small else 'bf16'}", "data.validation=4",
    ]  # fmt: skip
    out = bench.folder / "rm"
    began = time.perf_counter()
    train_reward_model(recipes.load("tiny" if bench.small else "demo", "reward", overrides), str(data), out, bench.device)
    what = f"train-rm, {'tiny' if bench.small else 'lite0'} encoder, crop {crop}"
    yield what, _of_log(out) | {"whole_run_s": round(time.perf_counter() - began)}


def tuning(bench: "Bench") -> "Found":
    """`fgr rlhf` of a network with four audits: seconds a step, share of waiting, what the audits take."""
    from fgr import recipe as recipes
    from fgr.rlhf.run import tune

    data, out = _dataset(bench), bench.folder / "tuned"
    recipe = recipes.load("demo", "rlhf", _tuning_overrides(bench))
    began = time.perf_counter()
    tune(recipe, bench.network(), SHIPPED, str(data), out, bench.device)
    what = f"rlhf direct, {recipe.training.steps} steps, batch {recipe.data.batch}, 4 audits"
    yield what, _of_log(out) | {"whole_run_s": round(time.perf_counter() - began)}


def side_by_side(bench: "Bench") -> "Found":
    """Runs of `fgr rlhf` at the same time on one device."""
    if bench.small or bench.quick:
        yield f"{SIDE_BY_SIDE} rlhf runs side by side", {"not measured": "only on a GPU and without --quick"}
        return
    common = [sys.executable, "-m", "fgr", "rlhf", "demo", *_tuning_overrides(bench), "--generator", bench.network()]
    common += ["--reward", SHIPPED, "--data", str(_dataset(bench)), "--device", bench.device, "--out"]
    began = time.perf_counter()
    runs = [
        subprocess.Popen([*common, str(bench.folder / f"beside-{number}")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number in range(SIDE_BY_SIDE)
    ]
    failed = sum(bool(run.wait()) for run in runs)
    yield f"{SIDE_BY_SIDE} rlhf runs side by side", {"all_s": round(time.perf_counter() - began), "failed": failed}


def _tuning_overrides(bench: "Bench") -> list[str]:
    steps, batch, images, patch = (4, 2, 2, 16) if bench.small else (60, 8, 24, 32)
    return [
        f"training={{steps: {steps}, checkpoint_every: {steps}, warmup: 2}}", "curriculum={schedule: none}",
        f"audit={{every: {max(1, steps // 4)}, images: {images}, crop: 16, patch: {patch}, sheet: 0}}",
        "audit.metrics=[]", "audit.planted=0",
        f"data={{crop: 16, batch: {batch}}}", f"reward.reference_images={max(4, images)}",
    ]  # fmt: skip


def _dataset(bench: "Bench") -> Path:
    """The dataset that the row `generate` made, or one made now."""
    from bench.device import generated

    if "three" not in bench.made:
        crop, samples = (128, 24) if bench.small else (256, 240)
        generated(bench, "three", [bench.network(), "bicubic"], crop, samples, "auto")
    return bench.made["three"]


def _of_log(run: Path) -> "Figures":
    """Means over the later half of a run's steps: seconds, and the share of waiting for batches."""
    from fgr.training import directory

    lines = [line for line in directory.metrics(run) if line.get("split") == "train" and "step_s" in line]
    lines = lines[len(lines) // 2 :]
    seconds = sum(line["step_s"] for line in lines)
    waiting = sum(line.get("wait_s", 0.0) for line in lines) / seconds
    return {"s_per_step": round(seconds / len(lines), 3), "waiting": round(waiting, 3)}


LARGE: dict[str, Callable[["Bench"], "Found"]] = {
    "diffusion": diffusion, "rl-steps": rl_steps, "train-rm": reward_model, "rlhf": tuning, "side-by-side": side_by_side,
}  # fmt: skip
