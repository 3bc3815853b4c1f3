"""SR systems on a test set: a record for each image and system, then means, intervals, comparisons.

The summary's protocol holds what the figures depend on: test set, metrics and their weights, systems and theirs.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fgr import __version__, atomic
from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.evaluate import evaluation_page, show, systems_page
from fgr.evaluate.closure import GOAL, REWARD_FIGURES, References, closures
from fgr.evaluate.systems import System, open_system
from fgr.evaluate.testset import Item, TestSet, open_test_set, with_made_inputs
from fgr.image_files import ImageFileError
from fgr.images.arrays import as_tensor
from fgr.metrics import intervals
from fgr.metrics.registry import Metric, Options, open_metrics
from fgr.progress import Progress
from fgr.reward.pretrained import load_reward_model
from fgr.reward.score import score, worst

Record = dict[str, Any]
DEFAULT = ("psnr", "ssim", "ms-ssim")


def evaluate_systems(
    names: Sequence[str], data: str, *, split: str = "test", layout: str = "auto", scale: int | None = None,
    limit: int | None = None, metrics: Sequence[str] | None = None, reward: str | None = None, border: int = 0,
    luma: bool = False, tile: int = 0, device: str = "auto", keep: Path | None = None, html: Path | None = None,
    pictures: int = evaluation_page.PICTURES,
) -> tuple[dict[str, Any], list[Record]]:  # fmt: skip
    """SR systems on a test set: the summary and one record an image and system; as a page too (`html`), with pictures of so many
    images. Without `metrics`: PSNR, SSIM and MS-SSIM where there are references. SR models restore what is made of the references
    where a set holds these alone. Where there are references, the summary has later systems' closure of the gap from the first to
    them, as the audit of `fgr rlhf` has it. UserError for whatever is not available, before anything is restored. An image that
    cannot be read or measured is left out for all systems and named in the summary's `left_out`, with the reason."""
    if len(set(names)) < len(names):
        raise UserError("A system is named twice.", "Name each once; the first is what the others are compared with.")
    chosen = choose_device(device)
    tests = open_test_set(data, split=split, layout=layout, scale=scale, limit=limit)
    wanted = metrics if metrics is not None else DEFAULT if all(item.reference for item in tests.items) else ()
    if not wanted and not reward:
        raise UserError("There is nothing to measure: the test set has no references.", "Name --metrics or a --reward.")
    chosen_metrics = open_metrics(wanted, Options(chosen, border, luma))
    model = load_reward_model(reward, chosen) if reward else None
    opened = [open_system(name, tests.items, scale=tests.scale, device=chosen, tile=tile) for name in names]
    if any(system.reads_inputs for system in opened):
        tests = with_made_inputs(tests)
    goal = [References()] if len(opened) > 1 and all(item.reference for item in tests.items) else []
    found, bad = _all_records([*opened, *goal], tests, chosen_metrics, model, keep, chosen)
    if not found:
        first = next(iter(bad.values()))
        raise UserError(f"No image of {data} can be measured: {first.message}", first.hint)
    protocol: dict[str, Any] = {"channel": "Y" if luma else "RGB", "border": border, "device": chosen}
    if model is not None:
        protocol |= {"reward": str(reward), "reward_model": model.settings}
    used = replace(tests, items=[item for item in tests.items if item.name not in bad])
    kept = [record for record in found if record["system"] != GOAL]
    result = summary(kept, opened, used, chosen_metrics, protocol) | {
        "closure": closures(found, [system.name for system in opened], chosen_metrics)
    }
    result["left_out"] = {name: error.message for name, error in bad.items()}
    if html:
        images = systems_page.images(kept, opened, used, chosen_metrics, model, pictures)
        evaluation_page.write(html, show.systems_title(result), show.systems(result), [], images)
    return result, kept


def _all_records(
    systems: Sequence[System], tests: TestSet, metrics: Sequence[Metric], model: Any, keep: Path | None, device: str
) -> tuple[list[Record], dict[str, ImageFileError]]:
    """The records of the images that can be measured, and the others' errors."""
    found: list[Record] = []
    bad: dict[str, ImageFileError] = {}
    with Progress("evaluate", len(systems) * len(tests.items), "images") as progress:
        for item, measured in records(systems, tests, metrics, model, keep, device):
            if isinstance(measured, ImageFileError):
                bad[item.name] = measured
                progress.advance(len(systems), {measured.reason: len(systems)})
            else:
                found += measured
                progress.advance(len(systems))
    return found, bad


def records(
    systems: Sequence[System],
    tests: TestSet,
    metrics: Sequence[Metric],
    reward: Any = None,
    keep: Path | None = None,
    device: str = "cpu",
) -> Iterator[tuple[Item, list[Record] | ImageFileError]]:
    """For each item its records, one a system: `image`, `photo`, `system` and a number for each metric; with a reward model also
    `score`, `map_mean` and `map_worst`. Outputs (and inputs) are kept as PNG below `keep`.

    In place of the records the error of an image that cannot be read, has another size than its reference, or is too small to be
    measured. UserError: no output, metrics that need references where there are none.
    """
    blind = [metric.name for metric in metrics if metric.needs_reference]
    if blind and any(item.reference is None for item in tests.items):
        raise UserError(
            f"The test set has no references, which {', '.join(blind)} need.", "Leave them out of --metrics, or give references."
        )
    for item in tests.items:
        try:
            yield item, _measured(systems, item, metrics, reward, keep, device)
        except ImageFileError as error:
            yield item, error


def _measured(
    systems: Sequence[System], item: Item, metrics: Sequence[Metric], reward: Any, keep: Path | None, device: str
) -> list[Record]:
    found: list[Record] = []
    reference = item.reference() if item.reference else None
    if keep and item.low:
        _write(keep / "inputs" / f"{item.name}.png", item.low())
    for system in systems:
        output = system.restore(item)
        _expect_size(system, item, output, reference)
        if keep and system.name != GOAL:
            _write(keep / folder_name(system.name) / f"{item.name}.png", output)
        figures = _figures(metrics, output, reference, device)
        found.append({"image": item.name, "photo": item.group, "system": system.name} | figures | _rewarded(reward, output))
    return found


def folder_name(name: str) -> str:
    """A system's name as a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "system"


def _figures(metrics: Sequence[Metric], output: np.ndarray, reference: np.ndarray | None, device: str) -> dict[str, float]:
    image, target = as_tensor([output], device), None if reference is None else as_tensor([reference], device)
    try:
        return {metric.name: metric.value(image, target) for metric in metrics}
    except ValueError as error:
        raise ImageFileError(
            f"An image of {output.shape[1]}×{output.shape[0]} pixels cannot be measured: {error}.", reason="size"
        ) from None


def _rewarded(reward: Any, output: np.ndarray) -> dict[str, float]:
    if reward is None:
        return {}
    value, map_ = score(reward, output)
    return {"score": value, "map_mean": float(map_.mean()), "map_worst": worst(map_)}


def _expect_size(system: System, item: Item, output: np.ndarray, reference: np.ndarray | None) -> None:
    if reference is not None and output.shape != reference.shape:
        raise ImageFileError(
            f"The output of {system.name} for '{item.name}' has {output.shape[1]}×{output.shape[0]} pixels, "
            f"its reference {reference.shape[1]}×{reference.shape[0]}.",
            "Outputs are compared as they are, never resized: restore the input at the test set's scale.",
            "size",
        )


def _write(path: Path, image: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    atomic.write_bytes(path, buffer.getvalue())


def summary(
    found: Sequence[Record], systems: Sequence[System], tests: TestSet, metrics: Sequence[Metric], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Means with intervals by system and figure; every later system against the first, image by image; the protocol."""
    lower = {metric.name: metric.lower_is_better for metric in metrics}
    lower |= {name: low for name, low in REWARD_FIGURES.items() if found and name in found[0]}
    columns = {system.name: [record for record in found if record["system"] == system.name] for system in systems}
    values = {
        name: {figure: np.array([record[figure] for record in rows], dtype=float) for figure in lower}
        for name, rows in columns.items()
    }
    photos = [item.group for item in tests.items]
    first, *others = values
    compared = {
        name: {figure: intervals.paired(values[name][figure], values[first][figure], photos, lower[figure]) for figure in lower}
        for name in others
    }
    return {
        "protocol": {
            "fgr": __version__, "test_set": tests.protocol, "metrics": {metric.name: metric.origin for metric in metrics},
            "systems": {system.name: system.facts() for system in systems}, "resampled": "photographs",
            "resamples": intervals.RESAMPLES, "images": "8-bit sRGB, whole, no resizing",
        } | protocol,
        "images": len(tests.items), "photos": len(set(photos)), "lower_is_better": [name for name, low in lower.items() if low],
        "systems": {
            name: {figure: intervals.summary(values[name][figure], photos) for figure in lower} for name in values
        },
        "against": first, "compared": compared,
    }  # fmt: skip


def write_table(path: Path, found: Sequence[Record]) -> None:
    """Write the per-image records as Parquet, or as CSV if the name ends so."""
    import io

    import polars

    table, buffer = polars.DataFrame(list(found)), io.BytesIO()
    if path.suffix.lower() == ".csv":
        table.write_csv(buffer)
    else:
        table.write_parquet(buffer)
    atomic.write_bytes(path, buffer.getvalue())
