"""`fgr generate`: from a recipe to a finished dataset directory; running it again resumes.

While it runs, `OUT/.fgr` holds the recipe, the plan with its references, the calibration and a state for every shard that is
done. When all are, they are folded into `fgr.json` and the card, and `OUT/.fgr` goes.
"""

import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgr import __version__, atomic
from fgr.dataset import card, manifest
from fgr.errors import UserError
from fgr.generate import plan
from fgr.generate.cluster import Cluster
from fgr.generate.engines import Engine, Local
from fgr.generate.makers import CALIBRATION, MODELS, PLAN, MakerFactory, describe
from fgr.generate.shards import Shard, is_done, plan_shards, state_path
from fgr.generate.watch import Watch
from fgr.licenses import expect_accepted
from fgr.progress import Progress
from fgr.recipe import differences, digest, resolved
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import license_of, parse_name

ENGINES: dict[str, Callable[[str, int], Engine]] = {"local": Local, "ray": Cluster}
PACKAGES = ("fgr", "torch", "numpy", "opencv-python", "pillow", "pyarrow", "scikit-image", "spandrel", "basicsr", "timm")


def generate(
    recipe: GenerateRecipe, out: Path, *, engine: str = "local", workers: int = 0, shard: tuple[int, int] = (0, 1),
    device: str = "auto",
) -> bool:  # fmt: skip
    """Make the dataset that `recipe` determines in `out`; True when it is whole, False when other `shard`s are still to come.

    `engine` is a key of ENGINES. `workers` 0 means one for each GPU, or for each CPU core, of the machine or of the cluster.
    `shard` = (I, N) makes every N-th shard from I on.
    Raises UserError for another recipe's folder, photographs that are all unusable, weights that cannot be had, and weights
    whose licence forbids a free dataset unless the recipe accepts that.
    """
    if is_whole(recipe, out):
        return True
    expect_accepted({parse_name(name).model: license_of(name) for name in recipe.models}, recipe.accept_license)
    with ENGINES[engine](device, workers) as workplace:
        factory = MakerFactory(recipe, out)
        described = describe(*factory.models(workplace.here))
        photographs = _prepare(factory, described, workplace)
        shards = all_shards(recipe, photographs)
        mine = [one for one in shards[shard[0] :: shard[1]] if not is_done(out, one)]
        with Progress("samples", sum(len(one.candidates) for one in mine), "samples") as progress:
            try:
                workplace.make(mine, factory, Watch(progress.advance, progress.total, recipe.not_finite))
            finally:
                atomic.remove_stale(out)  # of workers that were ended while they wrote
    if not all(is_done(out, one) for one in shards):
        return False
    _finish(recipe, out, shards, photographs, described["models"])
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


def all_shards(recipe: GenerateRecipe, photographs: plan.Plan) -> list[Shard]:
    """Every shard of the dataset."""
    return plan_shards(photographs.source_ids(), recipe.models, recipe.masks.composites, recipe.samples, recipe.shard_rows)


def _claim(out: Path, recipe: GenerateRecipe) -> None:
    state = out / ".fgr"
    state.mkdir(parents=True, exist_ok=True)
    atomic.remove_stale(out)
    _same(state / "recipe.json", resolved(recipe), "a run of another recipe")


def _prepare(factory: MakerFactory, described: dict[str, Any], engine: Engine) -> plan.Plan:
    """The plan and, beside it, the calibration; made now or by an earlier run."""
    recipe, out = factory.recipe, factory.out
    _claim(out, recipe)
    _same(out / ".fgr" / MODELS, described, "samples of other SR models or other weights")
    with _given_up_on_mistakes(out):
        splits, source = recipe.splits.model_dump(), recipe.source.model_dump()
        photographs = plan.build(out / ".fgr" / PLAN, workers=engine.processes, splits=splits, **source)
        if not (out / ".fgr" / CALIBRATION).is_file():
            engine.once(factory.calibrate)
    return photographs


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


def _finish(
    recipe: GenerateRecipe, out: Path, shards: Sequence[Shard], photographs: plan.Plan, models: Sequence[Mapping[str, Any]]
) -> None:
    states = [json.loads(state_path(out, shard).read_text()) for shard in shards]
    drops = Counter(photographs.drops)
    for state in states:
        drops.update(state["drops"])
    if not any(state["rows"] for state in states):
        raise UserError(
            f"No sample was made; dropped: {', '.join(f'{reason} {count}' for reason, count in sorted(drops.items()))}.",
            "Widen `severity`, choose a stronger degradation, or add photographs.",
        )
    calibration = json.loads((out / ".fgr" / CALIBRATION).read_text())
    content = {
        "fgr": __version__, "recipe": resolved(recipe), "recipe_digest": digest(recipe),
        "models": models, "calibration": calibration,
        "shards": states, "drops": dict(sorted(drops.items())), "photographs": photographs.photographs, "versions": _versions(),
    }  # fmt: skip
    manifest.write(out, content)
    card.write(out)
    shutil.rmtree(out / ".fgr")
    atomic.remove_stale(out, everyone=True)  # what machines that were lost left behind
    for split in ("train", "validation", "test"):
        if not any(state["split"] == split and state["rows"] for state in states):
            print(f"fgr: no photograph fell into the split '{split}': widen its share or add photographs.", file=sys.stderr)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in PACKAGES}
