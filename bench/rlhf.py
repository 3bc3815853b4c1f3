"""Seconds and memory of a tuning step with reward and audit, against the same step with the anchor to the reference alone.

    python -m bench.rlhf --reward RUN [--device cpu|cuda] [--generators realesr-animevideov3,realesrgan] [--steps 3]
    python -m bench.rlhf --reward RUN --draft 1,2,4,8       peak memory of DRaFT-K on a small ldm-sr of random weights, by K

Every case runs in a process of its own (its peak memory counts from before the network is loaded), both sides in turn. The audit
of 24 images every 20 steps is timed once and shared out over 20 steps.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.environment import describe

BATCH, AUDIT_IMAGES, EVERY = 4, 24, 20
PLANS = {"all": "whole network", "lora": "LoRA, rank 16", "lora+recompute": "LoRA, blocks recomputed"}


def case(generator: str, reward: str, side: int, train: str, kind: str, device: str, steps: int) -> dict[str, float]:
    """Median seconds a step and peak memory in MB of one side."""
    import torch

    from fgr.recipe.rlhf import Policy as PolicySettings
    from fgr.rlhf.inputs import Batch
    from fgr.rlhf.policies import open_policy
    from fgr.sr import parse_name

    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    where = torch.device(device)
    policy = open_policy(parse_name(generator))
    plan, _, recompute = train.partition("+")
    policy.learn(PolicySettings(train=plan, lora_rank=16, lora_alpha=16, checkpoint_blocks=bool(recompute)))
    policy.to(where)
    optimizer = torch.optim.AdamW(policy.learned().values(), lr=1e-6)
    generator_ = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.rand(BATCH, 3, side, side, generator=generator_), torch.rand(BATCH, 3, side * 4, side * 4, generator=generator_)
    ).to(where)
    shared = 0.0
    held_out, loss = _reward_side(policy, batch, reward, device) if kind == "reward" else (None, _plain_side(policy, batch))
    times = [step(loss, optimizer, where) for _ in range(steps + 1)][1:]
    if held_out is not None:
        began = time.perf_counter()
        held_out.measure(policy, where, [0])
        shared = (time.perf_counter() - began) / EVERY
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    memory = torch.cuda.max_memory_allocated() / 2**20 if where.type == "cuda" else peak / 1024
    return {"seconds": sorted(times)[len(times) // 2], "audit": shared, "memory": memory}


def _reward_side(policy: Any, batch: Any, reward: str, device: str) -> tuple[Any, Any]:
    """The audit, and the loss with the last stage's reward."""
    from fgr.images.arrays import as_images
    from fgr.recipe.rlhf import Anchor
    from fgr.recipe.rlhf import Reward as RewardSettings
    from fgr.reward.pretrained import load_stages
    from fgr.rlhf.algorithms.direct import Direct
    from fgr.rlhf.algorithms.interface import TrainingStep
    from fgr.rlhf.held_out import Crops, HeldOutEvaluation, HeldOutMetrics, open_held_out
    from fgr.rlhf.trained_reward import stage_reward

    last = load_stages(reward, device)[-1].requires_grad_(False)
    found = stage_reward(last, RewardSettings())
    found.weight = 1.0
    losses: list[Any] = []
    algorithm = Direct(policy, [found], Anchor())
    low, reference = (as_images(image.repeat(AUDIT_IMAGES // BATCH, 1, 1, 1)) for image in (batch.low, batch.reference))

    def loss() -> Any:
        algorithm.step(batch, TrainingStep(policy, 0, 1.0, losses.append, lambda: None))
        return losses.pop()

    crops = Crops(list(zip(low, reference, strict=True)), [str(number) for number in range(len(low))])
    return HeldOutEvaluation(policy, HeldOutMetrics(open_held_out((), device)), [found], crops, BATCH), loss


def _plain_side(policy: Any, batch: Any) -> Any:
    """The loss to the reference alone."""
    from fgr.recipe.rlhf import Anchor
    from fgr.rlhf.anchor import anchor_terms, total

    anchor = Anchor(start=0, reference=1.0)
    return lambda: total(anchor_terms(anchor, policy(batch.low), batch.low, batch.low, batch.reference))


def drafted(reward: str, last: int, recompute: bool, device: str) -> dict[str, float]:
    """Seconds and peak memory in MB of a DRaFT-K step: 10 denoising steps, the gradient through the last `last`."""
    import os
    import tempfile

    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from small_pretrained import ldm_sr

    from fgr.recipe.algorithms import DraftSettings
    from fgr.recipe.rlhf import Policy as PolicySettings
    from fgr.recipe.rlhf import Reward as RewardSettings
    from fgr.recipe.sampling import Sampling
    from fgr.reward.pretrained import load_stages
    from fgr.rlhf.algorithms.interface import TrainingStep
    from fgr.rlhf.algorithms.pathwise import Pathwise
    from fgr.rlhf.diffusion_policy import DiffusionPolicy
    from fgr.rlhf.inputs import Batch
    from fgr.rlhf.policies import open_policy
    from fgr.rlhf.trained_reward import stage_reward
    from fgr.sr import parse_name

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FGR_WEIGHTS"] = folder
        ldm_sr(Path(folder) / "ldm-sr")
        policy = open_policy(parse_name("ldm-sr"), "draft", sampling=Sampling(steps=10))
    policy.learn(PolicySettings(train="lora", lora_rank=8, lora_alpha=8, checkpoint_blocks=recompute))
    policy.to(device)
    assert isinstance(policy, DiffusionPolicy)
    model = load_stages(reward, device)[-1].requires_grad_(False)
    found = stage_reward(model, RewardSettings())
    found.weight = 1.0
    algorithm = Pathwise(policy, [found], DraftSettings(name="draft", last=last, hinge=None))
    batch = Batch(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), None).to(torch.device(device))
    policy(batch.low)  # what sampling alone takes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    algorithm.step(batch, TrainingStep(policy, 0, 1.0, lambda loss: loss.backward(), lambda: None))
    took = time.perf_counter() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": took, "memory": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else peak}


def draft_table(given: argparse.Namespace) -> None:
    """A line for each K, activations kept and recomputed."""
    print("| K | memory above sampling | s/step | blocks recomputed: memory | s/step |\n|---|---|---|---|---|")
    for last in given.draft.split(","):
        sides = []
        for recompute in ("", "recompute"):
            command = [sys.executable, "-m", "bench.rlhf", "--reward", given.reward, "--device", given.device]
            done = subprocess.run([*command, "--case", "draft", last, recompute, ""], capture_output=True, text=True, check=True)
            sides.append(json.loads(done.stdout.splitlines()[-1]))
        cells = " | ".join(f"{side['memory']:.0f} MB | {side['seconds']:.1f} s" for side in sides)
        print(f"| {last} | {cells} |", flush=True)


def step(loss: Any, optimizer: Any, where: Any) -> float:
    """Take a step; its seconds."""
    import torch

    began = time.perf_counter()
    loss().backward()
    optimizer.step()
    optimizer.zero_grad()
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reward", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--generators", default="realesr-animevideov3,realesrgan")
    parser.add_argument("--sides", default="32,64")
    parser.add_argument("--plans", default="all,lora")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--draft", metavar="K,K…")
    parser.add_argument("--case", nargs=4, metavar=("GENERATOR", "SIDE", "TRAIN", "KIND"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        generator, side, train, kind = given.case
        if generator == "draft":
            print(json.dumps(drafted(given.reward, int(side), bool(train), given.device)))
            return
        print(json.dumps(case(generator, given.reward, int(side), train, kind, given.device, given.steps)))
        return
    print(f"{describe('torch', 'spandrel', 'peft', 'diffusers')} · {given.device}, one thread, batch {BATCH}")
    if given.draft:
        draft_table(given)
        return
    print(
        "| generator | inputs | learns | with reward | plain | ratio | with audit | memory | plain | ratio |\n"
        + "|---" * 10
        + "|"
    )
    for generator in given.generators.split(","):
        for side in map(int, given.sides.split(",")):
            for train in given.plans.split(","):
                row(given, generator, side, train)


def row(given: argparse.Namespace, generator: str, side: int, train: str) -> None:
    """Measure both sides of a case and print its line."""
    sides = {}
    for kind in ("reward", "plain"):
        command = [
            sys.executable,
            "-m",
            "bench.rlhf",
            "--reward",
            given.reward,
            "--device",
            given.device,
            "--steps",
            str(given.steps),
        ]
        done = subprocess.run(
            [*command, "--case", generator, str(side), train, kind], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"| {generator} | {side}→{side * 4} | {PLANS[train]} | {kind} failed: {done.stderr.strip().splitlines()[-1]} |")
            return
        sides[kind] = json.loads(done.stdout.splitlines()[-1])
    full, bare = sides["reward"], sides["plain"]
    audited = full["seconds"] + full["audit"]
    print(
        f"| {generator} | {side}→{side * 4} | {PLANS[train]} | {full['seconds']:.2f} s | {bare['seconds']:.2f} s "
        f"| {full['seconds'] / bare['seconds']:.2f}× | {audited:.2f} s, {audited / bare['seconds']:.2f}× "
        f"| {full['memory']:.0f} MB | {bare['memory']:.0f} MB | {full['memory'] / bare['memory']:.2f}× |",
        flush=True,
    )


if __name__ == "__main__":
    main()
