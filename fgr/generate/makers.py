"""Building what makes shards, from a recipe: in this process, in a worker's, or on another machine."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fgr import atomic
from fgr.dataset import manifest
from fgr.dataset.calibrate import Calibration
from fgr.devices import cores
from fgr.errors import UserError
from fgr.generate import plan, samples
from fgr.generate.segments import Segments, open_segments
from fgr.generate.shards import ShardMaker
from fgr.generate.watch import Watch
from fgr.licenses import terms
from fgr.metrics.features import FeatureDifference, open_features
from fgr.progress import Progress
from fgr.recipe import differences, resolved
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import Upscaler, open_upscaler

MODELS, CALIBRATION, PLAN = "models.json", "calibration.json", "plan"  # in OUT/.fgr
FEATURES, SEGMENTS = "the feature difference", "the segments"
MOST_THREADS = 16  # beside a device
Models = tuple[dict[str, Upscaler], FeatureDifference, Segments]


class MakerFactory:
    """Builds ShardMakers of a recipe; small when it is sent to another process, which opens the models anew."""

    def __init__(self, recipe: GenerateRecipe, out: Path) -> None:
        self.recipe = recipe
        self.out = out.absolute()
        self._opened: dict[str, Models] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return MakerFactory, (self.recipe, self.out)

    def __call__(self, device: str) -> ShardMaker:
        """The ShardMaker of a worker. UserError if this machine does not see the run's folder, or has other weights."""
        models = self.models(device)
        state = self.out / ".fgr"
        try:
            described = json.loads((state / MODELS).read_text())
            calibration = json.loads((state / CALIBRATION).read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.out} is not the run's folder on every machine.", "Name an --out that all machines share by one path."
            ) from None
        other = differences(described, json.loads(json.dumps(describe(*models))))
        if other:
            raise UserError("\n".join(["A machine has other weights than the run began with:", *other]), "Give it the same.")
        return self._maker(device, plan.load(state / PLAN), calibration["scale"], calibration)

    def models(self, device: str) -> Models:
        """The recipe's SR models and what else has weights, on `device`, opened once; sets this process to one CPU thread."""
        import cv2
        import torch

        torch.set_num_threads(1)  # results do not depend on how many workers share the machine
        cv2.setNumThreads(1)
        if device not in self._opened:
            settings = self.recipe.inference.model_dump()
            names, scale = self.recipe.models, self.recipe.scale
            opening: dict[str, Callable[[], Any]] = {
                name: partial(open_upscaler, name, scale=scale, device=device, **settings) for name in names
            }
            opening[FEATURES] = partial(open_features, self.recipe.map.features, device)
            opening[SEGMENTS] = partial(open_segments, self.recipe.masks.segments, device)
            opened = _all_or_all_mistakes(opening)
            self._opened[device] = opened, opened.pop(FEATURES), opened.pop(SEGMENTS)
        return self._opened[device]

    def calibrate(self, device: str) -> None:
        """Write what the maps are scaled by, from the first references. UserError if nothing differs, or NaN comes too often."""
        recipe, photographs = self.recipe, plan.load(self.out / ".fgr" / PLAN)
        maker = self._maker(device, photographs, map_scale=1.0, calibration={})
        by_split = photographs.source_ids()
        source_ids = by_split.get("train") or next(ids for ids in by_split.values() if ids)
        number = min(recipe.map.calibration_pairs, len(source_ids) * len(recipe.models))
        histogram, pairs = Calibration(), 0
        with Progress("calibration", number, "images") as progress:
            watch = Watch(progress.advance, number, recipe.not_finite)
            for pair in maker.pairs(samples.candidates(source_ids, recipe.models, 1, number)):
                if isinstance(pair, samples.Pair):
                    histogram.add(pair.combined)
                    pairs += 1
                watch(1, {pair: 1} if isinstance(pair, str) else {})
        try:
            scale = histogram.scale(recipe.map.percentile)
        except ValueError as error:
            raise UserError(
                f"The maps cannot be scaled: {error}.", "Choose SR models or a degradation that change the photographs."
            ) from None
        content = {
            "scale": scale, "percentile": recipe.map.percentile, "pairs": pairs,
            "features": maker.features.name, "features_digest": maker.features.digest,
            "segments": maker.segmenter.name, "segments_digest": maker.segmenter.digest,
        }  # fmt: skip
        atomic.write_once(self.out / ".fgr" / CALIBRATION, json.dumps(content, sort_keys=True).encode())

    def _maker(self, device: str, photographs: plan.Plan, map_scale: float, calibration: dict[str, Any]) -> ShardMaker:
        recipe, on_cpu = self.recipe, device == "cpu"
        return ShardMaker(
            self.out, recipe.seed, recipe.scale, recipe.degradation, photographs, *self.models(device), recipe.map.alpha,
            recipe.map.smooth, sample_knobs(recipe, map_scale), manifest.determinants_of(resolved(recipe), calibration),
            batch=1 if on_cpu else recipe.inference.batch, threads=0 if on_cpu else min(MOST_THREADS, max(2, cores())),
        )  # fmt: skip


def sample_knobs(recipe: GenerateRecipe, map_scale: float) -> samples.Knobs:
    """What of a recipe shapes masks, maps and scores."""
    chosen, pooling = recipe.masks.model_dump(), recipe.map.pooling
    return samples.Knobs(
        **{key: chosen[key] for key in ("kinds", "area", "feather", "sham_shift")},
        map_scale=map_scale, pooling=(pooling.kind, pooling.q, pooling.p), severity=recipe.severity, attempts=recipe.attempts,
    )  # fmt: skip


def _all_or_all_mistakes(opening: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each call gives. UserError with everything that the user has to put right."""
    opened, mistakes = {}, []
    for name, call in opening.items():
        try:
            opened[name] = call()
        except UserError as error:
            mistakes.append(error)
    if mistakes:
        hints = dict.fromkeys(mistake.hint for mistake in mistakes if mistake.hint)
        raise UserError("\n".join(mistake.message for mistake in mistakes), "\n".join(hints) or None)
    return opened


def describe(upscalers: Mapping[str, Upscaler], features: FeatureDifference, segments: Segments) -> dict[str, Any]:
    """Names, weights, digests and terms of what makes the rows, as stored in `fgr.json`."""
    models = [
        {
            "name": one.name,
            "scale": one.scale,
            "weights": one.weights,
            "digest": one.digest,
            "license": one.license,
            "train_on_outputs": terms(one.license).train_on_outputs,
            "redistribute": terms(one.license).redistribute,
        }
        for one in upscalers.values()
    ]
    others: dict[str, FeatureDifference | Segments] = {"features": features, "segments": segments}
    return {"models": models} | {key: {"name": one.name, "digest": one.digest} for key, one in others.items()}
