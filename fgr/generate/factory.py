"""Opens what a recipe names and builds ShardMakers of it, here, in a worker or on another machine."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fgr import devices
from fgr.dataset import manifest
from fgr.device_errors import say_what_others_use
from fgr.errors import UserError, all_of
from fgr.generate import plan
from fgr.generate.maker import Models, ShardMaker
from fgr.generate.segments import Segments, open_segments
from fgr.generate.workspace import Workspace
from fgr.licenses import terms_of
from fgr.metrics.features import FeatureDifference, open_features
from fgr.recipe import differences, resolved
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import open_upscaler

MOST_BESIDE = 24  # threads or processes beside a device
FEATURES, SEGMENTS = "the feature difference", "the segments"


class MakerFactory:
    """Builds ShardMakers of a recipe; small when it is sent to another process, which opens the models again."""

    def __init__(self, recipe: GenerateRecipe, out: Path) -> None:
        self.recipe = recipe
        self.workspace = Workspace(out.absolute())
        self._opened: dict[str, Models] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return MakerFactory, (self.recipe, self.workspace.out)

    def __call__(self, device: str) -> ShardMaker:
        """The ShardMaker of a worker. UserError if this machine does not see the run's folder, or has other weights."""
        models = self.models(device)
        say_what_others_use(device)
        try:
            described = json.loads(self.workspace.models.read_text())
            calibration = json.loads(self.workspace.calibration.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.workspace.out} is not the run's folder on every machine.",
                "Name an --out that all machines share by one path.",
            ) from None
        other = differences(described, json.loads(json.dumps(describe(models))))
        if other:
            raise UserError(
                "A machine has different weights from those that the run began with:",
                "Put the same weights on every machine.",
                other,
            )
        return self.maker(device, plan.load(self.workspace.plan), calibration["scale"], calibration, processes=True)

    def models(self, device: str) -> Models:
        """What the recipe names, open on `device`; opened once. UserError with everything that is missing."""
        if device not in self._opened:
            self._opened[device] = open_models(self.recipe, device)
        return self._opened[device]

    def maker(
        self, device: str, references: plan.ReferencePlan, map_scale: float, calibration: dict[str, Any],
        processes: bool = False,
    ) -> ShardMaker:  # fmt: skip
        """A ShardMaker whose rows are determined by the recipe and by `calibration`, of which `map_scale` is part.

        Beside a device it has threads, which begin at once, or `processes`, which do more once they have begun; its share of the
        machine's cores of either.
        """
        alone = devices.one_by_one(device)
        cores = devices.cores() // max(1, sum(name.startswith("cuda:") for name in devices.available_devices()))
        return ShardMaker(
            self.workspace, self.recipe, references, self.models(device), map_scale,
            manifest.determinants_of(resolved(self.recipe), calibration), batch=1 if alone else self.recipe.inference.batch,
            threads=0 if alone else min(MOST_BESIDE, max(2, cores)), processes=processes, hardware=devices.hardware(device),
        )  # fmt: skip


def open_models(recipe: GenerateRecipe, device: str) -> Models:
    """The recipe's SR models and what else has weights, on `device`. UserError with everything that is missing."""
    settings = dict(recipe.inference)
    opening: dict[str, Callable[[], Any]] = {
        name: partial(open_upscaler, name, scale=recipe.scale, device=device, **settings) for name in recipe.models
    }
    opening[FEATURES] = partial(open_features, recipe.map.features, device, recipe.map.weights or "")
    opening[SEGMENTS] = partial(open_segments, recipe.masks.segments, device)
    opened = all_of(opening)
    return Models(features=opened.pop(FEATURES), segments=opened.pop(SEGMENTS), upscalers=opened)


def describe(models: Models) -> dict[str, Any]:
    """Names, weights, digests and licence terms of what determines the rows, as stored in `fgr.json`."""
    upscalers = [
        {
            "name": one.name,
            "scale": one.scale,
            "weights": one.weights,
            "digest": one.digest,
            "license": one.license,
            "train_on_outputs": terms_of(one.license).train_on_outputs,
            "redistribute": terms_of(one.license).redistribute,
        }
        for one in models.upscalers.values()
    ]
    others: dict[str, FeatureDifference | Segments] = {"features": models.features, "segments": models.segments}
    return {"models": upscalers} | {key: {"name": one.name, "digest": one.digest} for key, one in others.items()}
