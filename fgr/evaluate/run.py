"""`fgr evaluate`: opens what is named, measures it, and keeps the protocol beside the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr import __version__
from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.evaluate import benchmark as benchmarks
from fgr.evaluate import opinions, outputs
from fgr.evaluate.systems import open_system
from fgr.evaluate.testset import open_test_set
from fgr.images.arrays import as_tensor
from fgr.metrics.registry import Metric, Options, open_metrics
from fgr.progress import Progress
from fgr.reward import baselines
from fgr.reward.pretrained import load_reward_model
from fgr.reward.score import read, score

DEFAULT = ("psnr", "ssim", "ms-ssim")


def systems(
    names: Sequence[str], data: str, *, split: str = "test", layout: str = "auto", scale: int | None = None,
    limit: int | None = None, metrics: Sequence[str] | None = None, reward: str | None = None, border: int = 0,
    luma: bool = False, tile: int = 0, device: str = "auto", keep: Path | None = None,
) -> tuple[dict[str, Any], list[outputs.Record]]:  # fmt: skip
    """SR systems on a test set: the summary and one record an image and system. Without `metrics`: PSNR, SSIM and MS-SSIM where
    there are references. UserError for whatever cannot be had, before anything is restored."""
    if len(set(names)) < len(names):
        raise UserError("A system is named twice.", "Name each once; the first is what the others are compared with.")
    chosen = choose_device(device)
    tests = open_test_set(data, split=split, layout=layout, scale=scale, limit=limit)
    wanted = metrics if metrics is not None else DEFAULT if all(item.reference for item in tests.items) else ()
    if not wanted and not reward:
        raise UserError("There is nothing to measure: the test set has no references.", "Name --metrics or a --reward.")
    opened_metrics = open_metrics(wanted, Options(chosen, border, luma))
    model = load_reward_model(reward, chosen) if reward else None
    opened = [open_system(name, tests.items, scale=tests.scale, device=chosen, tile=tile) for name in names]
    found: list[outputs.Record] = []
    with Progress("evaluate", len(opened) * len(tests.items), "images") as progress:
        for record in outputs.records(opened, tests, opened_metrics, model, keep, chosen):
            found.append(record)
            progress.advance()
    protocol: dict[str, Any] = {"channel": "Y" if luma else "RGB", "border": border, "device": chosen}
    if model is not None:
        protocol |= {"reward": str(reward), "reward_model": model.settings}
    return outputs.summary(found, opened, tests, opened_metrics, protocol), found


def opinion(
    path: str, *, reward: str | None = None, metrics: Sequence[str] = (), border: int = 0, luma: bool = False,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """A reward model, and metrics, on a benchmark of people's opinions, with trivial baselines beside them."""
    chosen, found = choose_device(device), benchmarks.open_benchmark(path)
    opened_metrics = open_metrics(metrics, Options(chosen, border, luma))
    _expect_references(found, opened_metrics)
    model = load_reward_model(reward, chosen) if reward else None
    scores: dict[str, list[float]] = {}
    with Progress("benchmark", len(found.images), "images") as progress:
        for number, file in enumerate(found.images):
            image = read(file)
            if model is not None:
                scores.setdefault("reward", []).append(score(model, image)[0])
            target = as_tensor([read(found.references[number])], chosen) if number in found.references else None
            for metric in opened_metrics:
                scores.setdefault(metric.name, []).append(outputs.measured(metric, as_tensor([image], chosen), target))
            for name, baseline in baselines.SCORES.items():
                scores.setdefault(name, []).append(baseline(image))
            progress.advance()
    lower = [metric.name for metric in opened_metrics if metric.lower_is_better]
    arrays = {name: np.array(values) for name, values in scores.items()}
    return {
        "protocol": {
            "fgr": __version__, "benchmark": str(path), "images": len(found.images), "reward": reward,
            "reward_model": model.settings if model is not None else None, "channel": "Y" if luma else "RGB", "border": border,
            "metrics": {metric.name: metric.origin for metric in opened_metrics},
            "accuracy": "ties of people left out, equal scores as half", "resampled": "groups",
        },
        "kind": "scores" if found.mos else "pairs",
        "figures": opinions.figures(arrays, found, lower),
    }  # fmt: skip


def _expect_references(found: benchmarks.Benchmark, metrics: Sequence[Metric]) -> None:
    blind = [metric.name for metric in metrics if metric.needs_reference]
    if blind and len(found.references) < len(found.images):
        raise UserError(f"The benchmark has no references, which {', '.join(blind)} need.", "Add the column reference.")
