"""`fgr generate`: from a recipe to a finished dataset directory; running it again resumes.

While it runs, `OUT/.fgr` holds the recipe, the plan with its references, the calibration and a state for every shard that is
done. When all are, they are folded into `fgr.json` and the card, and `OUT/.fgr` goes.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fgr import __version__, atomic
from fgr.dataset import card, manifest
from fgr.devices import cpu_threads
from fgr.errors import UserError, notice, printable
from fgr.generate import plan
from fgr.generate.calibration import calibrate
from fgr.generate.engines import ENGINES, Engine
from fgr.generate.factory import MakerFactory, describe
from fgr.generate.preflight import forecast
from fgr.generate.shards import NotFiniteLimit, Shard, plan_shards
from fgr.generate.workspace import Workspace, is_whole
from fgr.progress import Progress
from fgr.recipe import digest, resolved
from fgr.recipe.generate import GenerateRecipe
from fgr.records import SPLITS

PACKAGES = ("fgr", "torch", "numpy", "opencv-python", "pillow", "pyarrow", "scikit-image", "spandrel", "basicsr", "timm")


def generate(
    recipe: GenerateRecipe, out: Path, *, engine: str = "local", workers: int = 0, shard: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> bool:  # fmt: skip
    """Make the dataset that `recipe` determines in `out`; True when it is whole, False when other `shard`s are still to come.

    `engine` is a key of ENGINES. `workers` 0 means one for each GPU, or for each CPU core, of the machine or of the cluster.
    `shard` = (I, N) makes every N-th shard from I on. Each worker computes on one CPU thread, this process too while it works.
    What the run is going to do is printed first; all that stands against it is one UserError: another recipe's folder,
    photographs that are absent or unusable, weights that are not available, licences that forbid a free
    dataset unless the recipe accepts that. One process at a time makes the same shards: another waits for it, and then finds the
    dataset made.
    """
    expected = forecast(recipe, out, device, workers)
    if expected.refusal:
        raise expected.refusal
    if is_whole(recipe, out):
        return True
    for line in expected.lines:
        print(printable(line), file=sys.stderr)
    for warning in expected.warnings:
        notice(warning)
    workspace, name = Workspace(out), f"making-{shard[0]}-of-{shard[1]}"
    try:
        with atomic.alone(workspace.folder, f"the dataset {out}", name):
            if is_whole(recipe, out):
                return True
            with cpu_threads(1), ENGINES[engine](device, workers) as workers_of_engine:
                return _generate(recipe, out, workers_of_engine, shard)
    except Exception:  # whatever a reader raises whose file went
        if _was_finished(recipe, out):  # by a process with other shards, which then took the workspace away
            return True
        raise
    finally:
        workspace.remove_empty()


def _generate(recipe: GenerateRecipe, out: Path, engine: Engine, part: tuple[int, int]) -> bool:
    factory = MakerFactory(recipe, out)
    models = factory.models(engine.device)
    workspace, described = factory.workspace, describe(models)
    features = {"name": models.features.name, "digest": models.features.digest, "origin": models.features.origin}
    notice(f"the map's features: {features['name']} ({features['origin']})")
    references = _plan_and_calibrate(factory, described, engine)
    shards = plan_shards(references.source_ids(), recipe)
    mine = [one for one in shards[part[0] :: part[1]] if not workspace.is_done(one)]
    with Progress("samples", sum(len(one.candidates) for one in mine), "samples") as progress:
        try:
            engine.make(mine, factory, NotFiniteLimit(progress.advance, progress.total, recipe.not_finite))
        finally:
            atomic.remove_stale(out)  # of workers that were ended while they wrote
    with atomic.alone(workspace.folder, f"the dataset {out}", "finishing"):
        if is_whole(recipe, out):
            return True
        if not all(workspace.is_done(one) for one in shards):
            return False
        _finish(recipe, workspace, shards, references, {"models": described["models"], "features": features})
        return True


def _was_finished(recipe: GenerateRecipe, out: Path) -> bool:
    try:
        return (out / manifest.NAME).is_file() and is_whole(recipe, out)
    except UserError:
        return False


def _plan_and_calibrate(factory: MakerFactory, described: dict[str, Any], engine: Engine) -> plan.ReferencePlan:
    """The plan and, beside it, the calibration; made now or by an earlier run."""
    recipe, workspace = factory.recipe, factory.workspace
    workspace.claim(recipe)
    workspace.expect_same(workspace.models, described, "samples of other SR models or other weights")
    with workspace.abandoned_on_mistakes():
        references = plan.build(workspace.plan, recipe.source, recipe.splits, engine.processes, recipe.most_photographs)
        if not workspace.calibration.is_file():
            engine.call(partial(calibrate, factory))
    return references


def _finish(
    recipe: GenerateRecipe,
    workspace: Workspace,
    shards: Sequence[Shard],
    references: plan.ReferencePlan,
    opened: Mapping[str, Any],
) -> None:
    out, states = workspace.out, [workspace.shard_state(shard) for shard in shards]
    drops = Counter(references.drops)
    for state in states:
        drops.update(state["drops"])
    if not any(state["rows"] for state in states):
        raise UserError(
            f"No sample was made; dropped: {', '.join(f'{reason} {count}' for reason, count in sorted(drops.items()))}.",
            "Widen `severity`, choose a stronger degradation, or add photographs.",
        )
    content = {
        "fgr": __version__, "recipe": resolved(recipe), "recipe_digest": digest(recipe),
        **opened, "calibration": json.loads(workspace.calibration.read_text()),
        "shards": states, "drops": dict(sorted(drops.items())), "photographs": references.photographs,
        "source": references.source, "moved": dict(references.moved), "versions": _versions(),
    }  # fmt: skip
    manifest.write(out, content)
    card.write(out)
    workspace.remove()
    atomic.remove_stale(out, everyone=True)  # what machines that were lost left behind
    for split in SPLITS:
        if references.photographs[split] and not any(state["split"] == split and state["rows"] for state in states):
            notice(f"no sample of the split '{split}' is left: make more (--limit), or widen `severity`.")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in PACKAGES}
