"""The reward model's costs: score and map against the encoder's own forward, the wait for data, and pyiqa's MANIQA.

    python -m bench.reward [--encoders tiny resnet50_clip.openai] [--rounds 7] [--size 512] [--maniqa] [--runs RUN…]
    python -m bench.reward --rows 64 [--workers 1] [--encoders tiny tf_efficientnet_lite0]

Random weights: they do not change the time. `--runs` reads from finished training runs what share of a step was waiting. `--rows`
evaluates as many rows of 256×256 pixels as `fgr evaluate --reward` does, and as it did in version 0.1: row by row, scikit-learn's
AP and AUC, every image judged by itself.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.environment import describe
from fgr.images import codec
from fgr.metrics import maps
from fgr.reward import baselines
from fgr.reward.data import Samples
from fgr.reward.evaluate import records
from fgr.reward.model import FinPercepRM
from fgr.reward.score import score
from fgr.training import directory as runs

WIDTHS = {"tiny": (48, 64), "resnet50_clip.openai": (64, 256)}  # of the shipped recipes: decoder, head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=list(WIDTHS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--maniqa", action="store_true", help="needs pyiqa; about a minute an image on one core")
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    parser.add_argument("--rows", type=int, default=0, help="evaluate so many rows instead of timing the network")
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(describe("torch", "timm", "pyiqa"))
    if chosen.rows:
        for encoder in chosen.encoders:
            evaluating(encoder, chosen.rows, chosen.workers)
        return
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


def evaluating(encoder: str, count: int, workers: int) -> None:
    """Print rows a second and processor time a row: row by row, in batches, with workers, with shared references."""
    width, hidden = WIDTHS.get(encoder, (48, 64))
    model = FinPercepRM(encoder=encoder, width=width, hidden=hidden).eval()
    alone, shared = made_up(count, 1), made_up(count, 5)
    ways: dict[str, Callable[[], object]] = {
        "row by row, as in 0.1": lambda: [one_row(model, row) for row in alone],
        "in batches, channels last": lambda: list(records(model.to(memory_format=torch.channels_last), alone)),
        f"and {workers} worker": lambda: list(records(model, alone, workers=workers)),
        f"and {workers} worker, five rows a reference": lambda: list(records(model, shared, workers=workers)),
    }
    list(records(model, alone[:2]))
    for name, run in ways.items():
        wall, own, others = spent(run)
        print(
            f"{encoder}, {name}: {count / wall:.1f} rows/s; processor time a row: {1e3 * own / count:.0f} ms here, "
            f"{1e3 * others / count:.0f} ms in workers"
        )


def spent(run: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds by the clock, of this process and of those that it started."""
    before = time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    others = children.ru_utime + children.ru_stime - before[2].ru_utime - before[2].ru_stime
    return time.monotonic() - before[0], time.process_time() - before[1], others


def made_up(count: int, rows_a_reference: int, side: int = 256) -> list[dict[str, Any]]:
    """Rows of crops of photographs, restored images that are smoothed, and discs as masks."""
    import cv2
    import skimage.data

    photograph = cv2.resize(skimage.data.astronaut(), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number // rows_a_reference)
        top, left = rng.integers(0, 1024 - side, 2)
        reference = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        sr = cv2.GaussianBlur(reference, (0, 0), 1 + 0.01 * (number + 1))
        centre = np.random.default_rng(number).integers(0, side, 2)
        inside = np.hypot(*(np.mgrid[:side, :side] - centre[:, None, None])) < 0.3 * side
        mask = np.where(inside, 255, 0).astype(np.uint8)
        rows.append({
            "id": str(number), "source_id": "", "photo_id": "", "model": "made up", "mask_kind": "ellipse", "score": 0.5,
            "mask_area": float(inside.mean()), "reference": codec.encode_rgb(reference), "sr": codec.encode_rgb(sr),
            "composite": codec.encode_rgb(np.where(inside[..., None], sr, reference)), "mask": codec.encode_mask(mask),
            "degradation_map": codec.encode_map(0.8 * inside.astype(np.float32)), "degradation": json.dumps({}),
        })  # fmt: skip
    return rows


def one_row(model: FinPercepRM, row: dict[str, Any]) -> Any:
    """What version 0.1 computed of a row."""
    arrays = Samples([row], crop=0).decode(row)
    target = arrays["target"].astype(np.float32) / 65535
    images = [arrays[name] for name in ("sr", "composite", "reference")]
    judged = [score(model, image) for image in images]
    scores = [[baseline(image) for image in images] for baseline in baselines.SCORES.values()]
    found = [judged[1][1], *(baseline(images[1]) for baseline in baselines.MAPS.values())]
    found += [np.full_like(target, 0.1), arrays["mask"].astype(np.float32) / 255]
    return scores, [separately(map_, target) for map_ in found], maps.reliability(found[0], target)


def separately(map_: np.ndarray, target: np.ndarray) -> Any:
    """The figures of a map with a sort each for AP and AUC."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels = (target > maps.POSITIVE).ravel()
    figures = [average_precision_score(labels, np.ravel(map_)), roc_auc_score(labels, np.ravel(map_))]
    figures += [
        figure(map_, target) for figure in (maps.correlation, maps.kl_divergence, maps.similarity, maps.scanpath_saliency)
    ]
    return figures + [maps.overlap(map_, target, threshold) for threshold in (0.1, 0.25, 0.5)]


if __name__ == "__main__":
    main()
