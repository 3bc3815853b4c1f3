"""How good a reward model is on a split of a dataset, beside the baselines that it must beat."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from fgr import __version__
from fgr.dataset import cells
from fgr.dataset.tables import evenly_drawn
from fgr.devices import choose_device, cores, cpu_threads
from fgr.metrics import maps as map_metrics
from fgr.progress import Progress
from fgr.reward import label_definition, splits
from fgr.reward.data import Samples
from fgr.reward.pretrained import folder_of, load_reward_model, run_of
from fgr.reward.probes import CHEAP, PROBES, Planting, expect_parts, measured
from fgr.reward.row_figures import JudgedRow, Record, row_workers
from fgr.reward.score import score_many
from fgr.reward.summary import summary
from fgr.reward.system_closure import SystemClosure
from fgr.training import directory as runs

TOGETHER = 16  # rows that are judged together
MANY = 64  # rows for which it pays to start processes
MOST_WORKERS = 16
REMEMBERED = 4096  # references and SR images whose judgements are kept
ROW = ("id", "source_id", "photo_id", "model", "mask_kind", "mask_area", "score")


def evaluate_reward_model(
    reward: str, data: str, split: str = "test", limit: int | None = None, device: str = "auto", *,
    parts: Sequence[str] = CHEAP, images: int = 16, systems: Sequence[str] = (), start: str | None = None,
    workers: int | None = 0, draws: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """A reward model on a split of a dataset, at most `limit` rows drawn evenly: summary of its labels, `probes`, protocol.

    `parts`: labels (maps, scores and triplets against the dataset's), and of `probes.PROBES` those to measure, on `images` of the
    references. `systems` are SR networks tuned from `start`, whose gap closure is measured. What needs no network is computed by
    so many `workers` beside it, processes of their own; None: as many as there are cores left, for many rows. UserError.
    """
    wanted = expect_parts(parts, systems)
    chosen = choose_device(device)
    model = load_reward_model(reward, chosen).to(memory_format=torch.channels_last)  # a tenth faster on CPUs, the same figures
    rows = splits.open_split(data, split)
    if limit and limit < len(rows):
        rows = rows.select(evenly_drawn(len(rows), limit))
    run = run_of(folder_of(reward))
    content = runs.read(run) if run else None
    closure = SystemClosure(systems, start, rows[0]["scale"], chosen) if systems else None
    found: dict[str, Any] = {
        "protocol": {
            "fgr": __version__, "reward": str(reward), "model": model.settings, "data": str(data), "split": split,
            "rows": len(rows), "parts": wanted, "draws": draws, "positive": map_metrics.POSITIVE,
            "kld_epsilon": map_metrics.EPSILON,
            "images": "whole, 8-bit RGB, no resizing", "intervals": "95 %, bootstrap over photographs",
        },
        "notes": _notes(reward, content, data),
    }  # fmt: skip
    if "labels" in wanted:
        base = load_reward_model(run / "base", chosen) if run and (run / "base").is_dir() else None
        held_out = content["recipe"]["data"]["exclude_models"] if content else []
        found |= summary(_recorded(model, rows, base, worker_count(len(rows)) if workers is None else workers, draws), held_out)
    probes = [part for part in wanted if part in PROBES]
    if probes:
        planting = Planting.of_recipe(content["recipe"] if content else None)
        with Progress("probes", len(probes), "parts") as progress:
            found["probes"] = measured(model, rows, probes, images, planting, closure, lambda name: progress.advance(), draws)
        missing = found["probes"].get("systems", {}).get("missing", {})
        found["notes"] += [f"{name} is left out: {reason.rstrip('.')}" for name, reason in missing.items()]
    return found


def _recorded(model: Any, rows: Any, base: Any, workers: int, draws: int) -> list[Record]:
    found = []
    threads = max(1, min(torch.get_num_threads(), cores() - workers))
    with Progress("rows", len(rows), "rows") as progress, cpu_threads(threads):
        for record in records(model, rows, base, workers=workers, draws=draws):
            found.append(record)
            progress.advance()
    return found


def worker_count(rows: int) -> int:
    """Processes beside this one that judge so many rows soonest."""
    return min(cores() // 2, MOST_WORKERS) if rows >= MANY and cores() > 2 else 0  # two cores are busy with the network


def _notes(reward: str, content: Mapping[str, Any] | None, data: str) -> list[str]:
    """What a reader of the figures has to know."""
    note = label_definition.note(reward, content["facts"].get("maps") if content else None, data)
    return [note] if note else []


def records(
    model: Any, rows: Iterable[Any], base: Any = None, tile: int = 1024, workers: int = 0, draws: int = 0
) -> Iterator[Record]:
    """For each row: scores and map figures of `model` and of the baselines on composite, SR image and reference.

    `base` is the reward model S_base, evaluated on the references. A record: the row's own columns; `scores`: name → (sr,
    composite, reference); `maps`: name → figures of the composite's map (see maps.map_figures); `clean`: mean and mean square of
    the reference's map; `base`: S_base; `bins`: reliability of the composite's map. Images that rows share are judged once. With
    `workers`, what needs no network is computed by so many processes beside it; with `draws` `model` judges by randomised copies.
    """
    waiting = iter(rows)
    judge = _Judge(model, base, tile, draws)
    with row_workers(workers) as start:
        begun: list[Callable[[], Record]] = []
        while batch := list(islice(waiting, TOGETHER)):
            started = start(judge.judged(batch))
            yield from (finish() for finish in begun)
            begun = started
        yield from (finish() for finish in begun)


class _Judge:
    """Judges rows; remembers what it said of the last references and SR images, which several rows share."""

    def __init__(self, model: Any, base: Any, tile: int, draws: int) -> None:
        self.model, self.base, self.tile, self.draws = model, base, tile, draws
        self._known: OrderedDict[bytes, dict[str, float]] = OrderedDict()

    def judged(self, rows: Sequence[Mapping[str, Any]]) -> list[JudgedRow]:
        """What the model says of rows, judged together."""
        decoded = [Samples(rows, crop=0).decode(row) for row in rows]
        names = [{name: _digest(cells.encoded(row, name)) for name in ("sr", "reference")} for row in rows]
        for name in ("sr", "reference"):
            self._learn({one[name]: arrays[name] for one, arrays in zip(names, decoded, strict=True)}, name == "reference")
        composites = score_many(self.model, (arrays["composite"] for arrays in decoded), self.tile, self.draws)
        found = [
            self._row(row, arrays, self._known[name["sr"]], self._known[name["reference"]], *composite)
            for row, arrays, name, composite in zip(rows, decoded, names, composites, strict=True)
        ]
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found

    def _learn(self, images: Mapping[bytes, np.ndarray], references: bool) -> None:
        for digest in images.keys() & self._known.keys():
            self._known.move_to_end(digest)
        new = {digest: image for digest, image in images.items() if digest not in self._known}
        for digest, (value, map_) in zip(new, score_many(self.model, new.values(), self.tile, self.draws), strict=True):
            self._known[digest] = {"score": value, "mean": float(map_.mean()), "mse": float(np.square(map_).mean())}
        if self.base is not None and references:
            unscored = {digest: image for digest, image in images.items() if "base" not in self._known[digest]}
            for digest, (value, _) in zip(unscored, score_many(self.base, unscored.values(), self.tile), strict=True):
                self._known[digest]["base"] = value

    def _row(self, row: Mapping[str, Any], arrays: Mapping[str, Any], sr: Mapping[str, float], reference: Mapping[str, float],
             score: float, map_: np.ndarray) -> JudgedRow:  # fmt: skip
        known: Record = {name: row[name] for name in ROW} | {"clean": {name: reference[name] for name in ("mean", "mse")}}
        known |= {"base": reference["base"]} if self.base is not None else {}
        images = {name: arrays[name] for name in ("sr", "composite", "reference")}
        return JudgedRow(known, images, arrays["mask"], arrays["target"], map_, (sr["score"], score, reference["score"]))


def _digest(encoded: bytes) -> bytes:
    return hashlib.blake2b(encoded, digest_size=16).digest()
