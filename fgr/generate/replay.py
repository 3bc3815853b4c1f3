"""`fgr verify --replay`: degrades and restores references again and compares with the dataset."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fgr.dataset import cells, manifest, tables
from fgr.dataset.verify import Problem
from fgr.devices import one_cpu_thread
from fgr.errors import UserError
from fgr.generate.samples import make_pair
from fgr.images import codec, degrade, difference
from fgr.metrics.features import reopen_features
from fgr.sr import Job, Upscaler, open_upscaler, parse_name
from fgr.sr.spec import DENOISE

ALONE = {DENOISE: {"denoise": 1.0}}  # how rows of older sets ran that do not say it


def replay(directory: Path, number: int, device: str) -> Iterator[Problem | None]:
    """Replay `number` rows spread over the dataset: yield a Problem for each that differs, None for each that agrees.

    Rows whose SR output was made elsewhere are passed over. UserError if an SR model's weights have changed.
    """
    recorded = manifest.read(directory)
    features = reopen_features(
        recorded["recipe"]["map"]["features"], device, recorded["calibration"], recorded["recipe"]["map"].get("weights")
    )
    upscalers: dict[tuple[str, str], Upscaler] = {}
    for file, row in _evenly_drawn(directory, number):
        record = json.loads(row["degradation"])
        if record["preset"] == "external":
            continue
        settings, prompt = _without_prompt(json.loads(row["inference"]))
        key = (row["model"], json.dumps(settings, sort_keys=True))
        if key not in upscalers:
            network = parse_name(row["model"]).model  # the row says itself how it ran
            settings = recorded["recipe"]["inference"] | ALONE.get(network, {}) | settings
            upscalers[key] = open_upscaler(network, scale=row["scale"], device=device, **settings)
        _expect_weights(upscalers[key], row)
        with one_cpu_thread():
            texts = list(_compare(row, record, prompt, upscalers[key], features, recorded))
        yield from (Problem(file, row["id"], text) for text in texts)
        if not texts:
            yield None


def _evenly_drawn(directory: Path, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    total = tables.count_rows(directory, "samples")
    wanted = set(tables.evenly_drawn(total, number))
    files = (
        (f"samples/{file.name}", row) for file in tables.shards(directory, "samples") for row in tables.read_shard(file, batch=1)
    )
    yield from (found for position, found in enumerate(files) if position in wanted)


def _without_prompt(inference: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """How a row was made, and the prompt by itself: it may hold the words of a tagger, and be another in every row."""
    sampling = inference.get("diffusion", {})
    if "prompt" not in sampling:
        return inference, None
    return inference | {"diffusion": sampling | {"prompt": ""}}, sampling["prompt"]


def _expect_weights(upscaler: Upscaler, row: dict[str, Any]) -> None:
    if upscaler.digest != row["model_digest"]:
        raise UserError(
            f"The weights of '{row['model']}' are not those of the dataset: {upscaler.digest[:12]}… instead of "
            f"{row['model_digest'][:12]}….",
            "Replay on a machine with the weights that fgr.json names.",
        )


def _compare(
    row: dict[str, Any], record: dict[str, Any], prompt: str | None, upscaler: Upscaler, features: Any, recorded: dict[str, Any]
) -> Iterator[str]:
    reference = cells.pixels(row, "reference")
    size = reference.shape[0]
    job = Job(degrade.apply(reference, record), "", (size, size), (0, 0, size), reference, prompt)
    sr = upscaler.upscale([job])[0]
    stored = cells.pixels(row, "sr")
    if not np.array_equal(sr, stored):
        yield f"sr differs on replay in {int((sr != stored).any(axis=2).sum())} pixels"
        return
    settings, scale = recorded["recipe"]["map"], recorded["calibration"]["scale"]
    pixel = manifest.pixel_difference_of(recorded)
    pair = make_pair(reference, sr, features.difference(reference, sr), pixel, settings["alpha"], settings["smooth"])
    again = {}
    if row["mask_kind"] != "sham":
        again["degradation_map"] = difference.degradation_map(pair.combined, cells.pixels(row, "mask"), scale)
    if "sr_map" in row:
        again["sr_map"] = difference.whole_map(pair.combined, scale)
    for name, map_ in again.items():
        if not np.array_equal(codec.quantised(map_), cells.pixels(row, name)):
            yield f"{name} differs on replay"
