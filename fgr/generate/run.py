"""`fgr generate`: from a recipe to a finished dataset directory; running it again resumes.

While it runs, `OUT/.fgr` holds the recipe, the plan with its references, the calibration and a state for every shard that is
done. When all are, they are folded into `fgr.json` and the card, and `OUT/.fgr` goes.
"""

import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgr import __version__, atomic
from fgr.dataset import card, manifest
from fgr.dataset.calibrate import Calibration
from fgr.errors import UserError
from fgr.generate import engines, plan, samples
from fgr.generate.features import FeatureDifference, open_features
from fgr.generate.shards import Shard, ShardMaker, is_done, plan_shards, state_path
from fgr.generate.upscalers import Upscaler, license_of, open_upscaler
from fgr.generate.upscalers.licenses import expect_accepted, terms
from fgr.generate.watch import Watch
from fgr.progress import Progress
from fgr.recipe import differences, digest, resolved
from fgr.recipe.generate import GenerateRecipe

PACKAGES = ("fgr", "torch", "numpy", "opencv-python", "pillow", "pyarrow", "scikit-image", "spandrel", "basicsr", "timm")


def generate(
    recipe: GenerateRecipe, out: Path, *, workers: int = 0, shard: tuple[int, int] = (0, 1), device: str = "auto"
) -> bool:
    """Make the dataset that `recipe` determines in `out`; True when it is whole, False when other `shard`s are still to come.

    `workers` 0 means one for each CUDA device, or for each CPU core. `shard` = (I, N) makes every N-th shard from I on.
    Raises UserError for another recipe's folder, photographs that are all unusable, weights that cannot be had, and weights
    whose licence forbids a free dataset unless the recipe accepts that.
    """
    import torch

    if is_whole(recipe, out):
        return True
    devices = choose_devices(device, workers)
    torch.set_num_threads(1)
    factory = MakerFactory(recipe, out)
    expect_accepted({name: license_of(name) for name in recipe.models}, recipe.accept_license)
    upscalers, features = factory.models(devices[0])
    described = describe(upscalers, features)
    _claim(out, recipe)
    source = recipe.source.model_dump()
    _same(out / ".fgr" / "models.json", described, "samples of other SR models or feature weights")
    with _given_up_on_mistakes(out):
        photographs = plan.build(out / ".fgr" / "plan", workers=len(devices), splits=recipe.splits.model_dump(), **source)
        calibration = _calibrate(recipe, factory.maker(upscalers, features, photographs, map_scale=1.0), features)
    shards = all_shards(recipe, photographs)
    mine = [one for one in shards[shard[0] :: shard[1]] if not is_done(out, one)]
    with Progress("samples", sum(len(one.candidates) for one in mine), "samples") as progress:
        try:
            engines.local(mine, factory, devices, Watch(progress.advance, progress.total, recipe.not_finite))
        finally:
            atomic.remove_stale(out)  # of workers that were ended while they wrote
    if not all(is_done(out, one) for one in shards):
        return False
    _finish(recipe, out, shards, photographs, calibration, described["models"])
    return True


def is_whole(recipe: GenerateRecipe, out: Path) -> bool:
    """Whether `out` holds the finished dataset of `recipe`. UserError if it holds another one, or something else."""
    if (out / manifest.NAME).is_file():
        other = differences(manifest.read(out)["recipe"], resolved(recipe))
        if other:
            raise _refused(out, "a dataset of another recipe", other)
        if (out / ".fgr").is_dir():
            card.write(out)
            shutil.rmtree(out / ".fgr")
        return True
    if out.is_file():
        raise UserError(f"{out} is a file, not a folder.", "Name another --out.")
    if out.is_dir() and not (out / ".fgr").is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no fgr dataset.", "Name another --out, or empty it.")
    return False


@dataclass(frozen=True)
class MakerFactory:
    """Builds a worker's ShardMaker; small enough to be sent to a new process."""

    recipe: GenerateRecipe
    out: Path

    def __call__(self, device: str) -> ShardMaker:
        import cv2
        import torch

        torch.set_num_threads(1)  # results do not depend on how many workers share the machine
        cv2.setNumThreads(1)
        upscalers, features = self.models(device)
        calibration = json.loads((self.out / ".fgr" / "calibration.json").read_text())
        return self.maker(upscalers, features, plan.load(self.out / ".fgr" / "plan"), calibration["scale"], calibration)

    def models(self, device: str) -> tuple[dict[str, Upscaler], FeatureDifference]:
        """Open the recipe's SR models and feature difference on `device`."""
        settings = self.recipe.inference.model_dump()
        upscalers = {name: open_upscaler(name, scale=self.recipe.scale, device=device, **settings) for name in self.recipe.models}
        return upscalers, open_features(self.recipe.map.features, device)

    def maker(
        self, upscalers: Mapping[str, Upscaler], features: FeatureDifference, photographs: plan.Plan, map_scale: float,
        calibration: dict[str, Any] | None = None,
    ) -> ShardMaker:  # fmt: skip
        """A ShardMaker with the recipe's knobs."""
        recipe = self.recipe
        chosen, pooling = recipe.masks.model_dump(), recipe.map.pooling
        knobs = samples.Knobs(
            **{key: chosen[key] for key in ("kinds", "area", "feather", "sham_shift")},
            map_scale=map_scale, pooling=(pooling.kind, pooling.q, pooling.p), severity=recipe.severity, attempts=recipe.attempts,
        )  # fmt: skip
        return ShardMaker(
            self.out, recipe.seed, recipe.scale, recipe.degradation, photographs, upscalers, features, recipe.map.alpha,
            recipe.map.smooth, knobs, manifest.determinants_of(resolved(recipe), calibration or {}),
        )  # fmt: skip


def choose_devices(device: str, workers: int) -> list[str]:
    """One device name for each worker. UserError for a device that is not there."""
    import os

    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = device.partition(":")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        raise UserError(
            f"There is no device '{device}' here.",
            f"Choose --device from: {', '.join(name for name in present if present[name])}.",
        )
    if kind == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return ["cpu"] * (workers or cores)
    if kind == "cuda" and not number:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [names[i % len(names)] for i in range(workers or len(names))]
    return [device] * (workers or 1)


def describe(upscalers: Mapping[str, Upscaler], features: FeatureDifference) -> dict[str, Any]:
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
    return {"models": models, "features": {"name": features.name, "digest": features.digest}}


def all_shards(recipe: GenerateRecipe, photographs: plan.Plan) -> list[Shard]:
    """Every shard of the dataset."""
    return plan_shards(photographs.source_ids(), recipe.models, recipe.masks.composites, recipe.samples, recipe.shard_rows)


def _claim(out: Path, recipe: GenerateRecipe) -> None:
    state = out / ".fgr"
    state.mkdir(parents=True, exist_ok=True)
    atomic.remove_stale(out)
    _same(state / "recipe.json", resolved(recipe), "a run of another recipe")


@contextlib.contextmanager
def _given_up_on_mistakes(out: Path) -> Iterator[None]:
    """What the user has to put right in the recipe must not leave a folder that then refuses the mended recipe."""
    try:
        yield
    except UserError:
        if not (out / ".fgr" / "shards").is_dir():
            shutil.rmtree(out / ".fgr", ignore_errors=True)
            with contextlib.suppress(OSError):
                out.rmdir()
        raise


def _same(path: Path, content: dict[str, Any], what: str) -> None:
    there = json.loads(atomic.write_once(path, json.dumps(content, sort_keys=True).encode()))
    other = differences(there, json.loads(json.dumps(content)))
    if other:
        raise _refused(path.parents[1], what, other)


def _refused(out: Path, what: str, other: Sequence[str]) -> UserError:
    listed = "\n".join(f"  {line}" for line in other[:10])
    return UserError(f"{out} already holds {what}:\n{listed}", "Name another --out, or give the same recipe again to go on.")


def _calibrate(recipe: GenerateRecipe, maker: ShardMaker, features: FeatureDifference) -> dict[str, Any]:
    path = maker.out / ".fgr" / "calibration.json"
    if path.is_file():
        return json.loads(path.read_text())
    by_split = maker.photographs.source_ids()
    source_ids = by_split.get("train") or next(ids for ids in by_split.values() if ids)
    todo = samples.candidates(
        source_ids, recipe.models, 1, min(recipe.map.calibration_pairs, len(source_ids) * len(recipe.models))
    )
    histogram, pairs = Calibration(), 0
    with Progress("calibration", len(todo), "images") as progress:
        watch = Watch(progress.advance, len(todo), recipe.not_finite)
        for candidate in todo:
            for _, pair, _ in maker.pairs([candidate]):
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
    result: dict[str, Any] = {"scale": scale, "percentile": recipe.map.percentile, "pairs": pairs}
    result |= {"features": features.name, "features_digest": features.digest}
    return json.loads(atomic.write_once(path, json.dumps(result, sort_keys=True).encode()))


def _finish(
    recipe: GenerateRecipe, out: Path, shards: Sequence[Shard], photographs: plan.Plan, calibration: dict[str, Any],
    models: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    states = [json.loads(state_path(out, shard).read_text()) for shard in shards]
    drops = Counter(photographs.drops)
    for state in states:
        drops.update(state["drops"])
    if not any(state["rows"] for state in states):
        raise UserError(
            f"No sample was made; dropped: {', '.join(f'{reason} {count}' for reason, count in sorted(drops.items()))}.",
            "Widen `severity`, choose a stronger degradation, or add photographs.",
        )
    content = {
        "fgr": __version__, "recipe": resolved(recipe), "recipe_digest": digest(recipe),
        "models": models, "calibration": calibration,
        "shards": states, "drops": dict(sorted(drops.items())), "photographs": photographs.photographs, "versions": _versions(),
    }  # fmt: skip
    manifest.write(out, content)
    card.write(out)
    shutil.rmtree(out / ".fgr")
    for split in ("train", "validation", "test"):
        if not any(state["split"] == split and state["rows"] for state in states):
            print(f"fgr: no photograph fell into the split '{split}': widen its share or add photographs.", file=sys.stderr)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in PACKAGES}
