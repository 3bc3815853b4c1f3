"""`fgr verify --replay`: degrades and restores references again and compares with the dataset."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fgr import devices
from fgr.dataset import cells, manifest, tables
from fgr.dataset.verify import Problem
from fgr.errors import UserError
from fgr.generate.samples import make_pair
from fgr.images import codec, degrade, difference
from fgr.images.arrays import as_tensor
from fgr.metrics.features import FeatureDifference, reopen_features
from fgr.metrics.fidelity import psnr
from fgr.sr import Job, Upscaler, open_upscaler, parse_name
from fgr.sr.spec import DENOISE

ALONE = {DENOISE: {"denoise": 1.0}}  # how rows of older sets ran that do not say it
NEAR = 30.0  # dB between the images of two devices: far below what rounding makes, far above what another input does


class Inexact(Problem):
    """A row that cannot be made again bit for bit here, and why: no broken promise."""


class _Replay:
    """What rows of one dataset are made again with: models and features, opened once for each way in which rows ran."""

    def __init__(self, recorded: dict[str, Any], device: str) -> None:
        self.recorded, self._asked = recorded, device
        self._upscalers: dict[str, Upscaler] = {}
        self._features: dict[str, FeatureDifference] = {}

    def device(self, inference: dict[str, Any]) -> str:
        """Where a row is made again: what the user asked for, or (auto) the kind of device that the row says."""
        return "cpu" if self._asked == "auto" and "hardware" not in inference else devices.choose_devices(self._asked, 1)[0]

    def features(self, device: str) -> FeatureDifference:
        if device not in self._features:
            map_ = self.recorded["recipe"]["map"]
            self._features[device] = reopen_features(map_["features"], device, self.recorded["calibration"], map_.get("weights"))
        return self._features[device]

    def upscaler(self, row: dict[str, Any], settings: dict[str, Any], device: str) -> Upscaler:
        """The row's SR model as the row says that it ran. UserError if its weights have changed."""
        key = json.dumps([row["model"], settings, device], sort_keys=True)
        if key not in self._upscalers:
            network = parse_name(row["model"]).model
            how = self.recorded["recipe"]["inference"] | ALONE.get(network, {}) | settings
            self._upscalers[key] = open_upscaler(network, scale=row["scale"], device=device, **how)
        _expect_weights(self._upscalers[key], row)
        return self._upscalers[key]


def replay(directory: Path, number: int, device: str) -> Iterator[Problem | Inexact | None]:
    """Replay `number` rows spread over the dataset: None for each that agrees, a Problem for each that differs.

    An Inexact for a row that differs, but by no more than another GPU, other libraries or less memory explain. `device` auto is
    the kind of device that a row was made on. Rows whose SR output was made elsewhere are passed over. UserError if an SR
    model's weights have changed.
    """
    again = _Replay(manifest.read(directory), device)
    for file, row in _evenly_drawn(directory, number):
        record = json.loads(row["degradation"])
        if record["preset"] == "external":
            continue
        with devices.cpu_threads(1):
            found = list(_compare(row, record, again))
        yield from (kind(file, row["id"], text) for kind, text in found)
        if not found:
            yield None


def _evenly_drawn(directory: Path, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    total = tables.count_rows(directory, "samples")
    wanted = set(tables.evenly_drawn(total, number))
    files = (
        (f"samples/{file.name}", row) for file in tables.shards(directory, "samples") for row in tables.read_shard(file, batch=1)
    )
    yield from (found for position, found in enumerate(files) if position in wanted)


def _taken_apart(inference: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """How a row was made: its model's settings; what is the row's own, namely hardware, batch and place; and the prompt.

    The prompt may hold the words of a tagger, and be another in every row.
    """
    own: dict[str, Any] = {key: inference[key] for key in ("hardware", "batch", "place") if key in inference}
    settings = {key: value for key, value in inference.items() if key not in own}
    sampling = settings.get("diffusion", {})
    if "prompt" not in sampling:
        return settings, own, None
    return settings | {"diffusion": sampling | {"prompt": ""}}, own, sampling["prompt"]


def _expect_weights(upscaler: Upscaler, row: dict[str, Any]) -> None:
    if upscaler.digest != row["model_digest"]:
        raise UserError(
            f"The weights of '{row['model']}' are not those of the dataset: {upscaler.digest[:12]}… instead of "
            f"{row['model_digest'][:12]}….",
            "Replay on a machine with the weights that fgr.json names.",
        )


def _compare(row: dict[str, Any], record: dict[str, Any], again: _Replay) -> Iterator[tuple[type[Problem | Inexact], str]]:
    inference, recorded = json.loads(row["inference"]), again.recorded
    device = again.device(inference)
    settings, own, prompt = _taken_apart(inference)
    upscaler = again.upscaler(row, settings, device)
    reference = cells.pixels(row, "reference")
    size = reference.shape[0]
    seat = (own["place"], own["batch"]) if "batch" in own else None
    job = Job(degrade.apply(reference, record), "", (size, size), (0, 0, size), reference, prompt, seat)
    sr = upscaler.upscale([job])[0]
    stored = cells.pixels(row, "sr")
    excuse = _excuse(inference, upscaler.settings() | ({"hardware": here} if (here := devices.hardware(device)) else {}))
    if not np.array_equal(sr, stored):
        yield _difference(sr, stored, excuse)
        return
    settings, scale = recorded["recipe"]["map"], recorded["calibration"]["scale"]
    pixel, feature = manifest.pixel_difference_of(recorded), again.features(device).difference(reference, sr)
    pair = make_pair(reference, sr, feature, pixel, settings["alpha"], settings["smooth"])
    maps = {}
    if row["mask_kind"] != "sham":
        maps["degradation_map"] = difference.degradation_map(pair.combined, cells.pixels(row, "mask"), scale)
    if "sr_map" in row:
        maps["sr_map"] = difference.whole_map(pair.combined, scale)
    for name, map_ in maps.items():
        if not np.array_equal(codec.quantised(map_), cells.pixels(row, name)):
            yield (Inexact, f"{name} differs on replay: {excuse}") if excuse else (Problem, f"{name} differs on replay")


def _excuse(made: dict[str, Any], now: dict[str, Any]) -> str:
    """Why a row need not come out bit for bit here; empty if it must."""
    then, here = made.get("hardware"), now.get("hardware")
    if then != here:
        return f"it was made on {_described(then)}, this is {_described(here)}"
    cut = [f"{key} {now[key]} instead of {made[key]}" for key in ("tile", "batch") if made.get(key) != now.get(key)]
    return f"memory allows {', '.join(cut)}" if cut and here else ""


def _described(hardware: dict[str, Any] | None) -> str:
    if hardware is None:
        return "a processor"
    libraries = ", ".join(f"{key} {value}" for key, value in sorted(hardware.items()) if key != "gpu")
    return f"{hardware.get('gpu')} ({libraries})"


def _difference(sr: np.ndarray, stored: np.ndarray, excuse: str) -> tuple[type[Problem | Inexact], str]:
    text = f"sr differs on replay in {int((sr != stored).any(axis=2).sum())} pixels"
    decibels = float(psnr(as_tensor([sr], "cpu"), as_tensor([stored], "cpu")))
    if not excuse or decibels < NEAR:
        return Problem, text
    return Inexact, f"{text}, {decibels:.0f} dB apart: {excuse}"
