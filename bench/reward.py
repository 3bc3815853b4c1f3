"""The reward model's costs: score and map against the encoder's own forward, the wait for data, and pyiqa's MANIQA.

    python -m bench.reward [--encoders tiny resnet50_clip.openai] [--rounds 7] [--size 512] [--maniqa] [--runs RUN…]

Random weights: they do not change the time. `--runs` reads from finished training runs what share of a step was waiting.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.environment import describe
from fgr.reward.model import FinPercepRM
from fgr.training import directory as runs

WIDTHS = {"tiny": (48, 64), "resnet50_clip.openai": (64, 256)}  # of the shipped recipes: decoder, head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=list(WIDTHS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--maniqa", action="store_true", help="needs pyiqa; about a minute an image on one core")
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(describe("torch", "timm", "pyiqa"))
    image = torch.rand(1, 3, chosen.size, chosen.size, generator=torch.Generator().manual_seed(0))
    ours = {encoder: compare(encoder, image, chosen.rounds) for encoder in chosen.encoders}
    if chosen.maniqa:
        against_maniqa(image, ours)
    for run in chosen.runs:
        waiting(run)


@torch.inference_mode()
def compare(encoder: str, image: torch.Tensor, rounds: int) -> float:
    """Print medians of interleaved rounds of the encoder alone, and of score and map; return the latter in ms."""
    width, hidden = WIDTHS.get(encoder, (48, 64))
    model = FinPercepRM(encoder=encoder, width=width, hidden=hidden).eval()
    times = interleaved({"encoder alone": lambda: model.encoder(image), "score and map": lambda: model(image)}, rounds)
    alone, both = times["encoder alone"], times["score and map"]
    size = "×".join(map(str, image.shape[-2:]))
    print(f"{encoder} {size}: encoder alone {alone:.0f} ms, score and map {both:.0f} ms, ratio {both / alone:.2f}")
    return both


def interleaved(sides: dict[str, Callable[[], object]], rounds: int, warm_up: bool = True) -> dict[str, float]:
    """Median CPU milliseconds of each side."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, run in sides.items():
            start = time.process_time()
            run()
            if number >= warm_up:
                spent[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(times) for name, times in spent.items()}


@torch.inference_mode()
def against_maniqa(image: torch.Tensor, ours: dict[str, float]) -> None:
    """Print the time of pyiqa's MANIQA, weights random, 20 crops of 224×224 as it does by default; once: it is slow."""
    import timm
    from pyiqa.archs import maniqa_arch

    create = timm.create_model
    maniqa_arch.timm.create_model = lambda name, pretrained: create(name, pretrained=False)
    peer = maniqa_arch.MANIQA(pretrained=False).eval()
    took = interleaved({"MANIQA": lambda: peer(image)}, 1, warm_up=False)["MANIQA"]
    ratios = ", ".join(f"{took / time:.1f} × {name}" for name, time in ours.items())
    print(f"MANIQA: {took:.0f} ms = {ratios}")


def waiting(run: Path) -> None:
    """Print what share of the steps' time a run waited for its batches, by phase, without the first epoch's decoding."""
    phases: dict[str, list[dict[str, float]]] = {}
    for line in runs.metrics(run):
        if line["split"] == "train":
            phases.setdefault(line["phase"], []).append(line)
    for name, lines in phases.items():
        late = lines[len(lines) // 2 :]
        shares = [sum(x["wait_s"] for x in part) / sum(x["step_s"] for x in part) for part in (lines, late)]
        print(f"{run.name} {name}: waited {shares[0]:.1%} of the steps' time, {shares[1]:.1%} in the second half")


if __name__ == "__main__":
    main()
