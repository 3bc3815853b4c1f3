"""OUT/.fgr: what an unfinished run keeps so that the same command resumes it."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.dataset import card, manifest
from fgr.errors import UserError
from fgr.generate.shards import Shard
from fgr.images import codec
from fgr.recipe import completed, differences, resolved
from fgr.recipe.generate import GenerateRecipe


class Workspace:
    """The folder `.fgr` of a run in `out`, by the files in it."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / ".fgr"
        self.recipe, self.models = self.folder / "recipe.json", self.folder / "models.json"
        self.plan, self.calibration = self.folder / "plan", self.folder / "calibration.json"

    def claim(self, recipe: GenerateRecipe) -> None:
        """Begin a run of `recipe`, or go on with it. UserError if another recipe's run is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.remove_stale(self.out)
        self.expect_same(self.recipe, resolved(recipe), "a run of another recipe")

    def expect_same(self, path: Path, content: dict[str, Any], what: str) -> None:
        """Write `content` to `path` unless it is there. UserError, naming `what` is there, if something else is."""
        written = json.loads(atomic.write_once(path, json.dumps(content, sort_keys=True).encode()))
        other = differences(written, json.loads(json.dumps(content)))
        if other:
            raise already_holds(self.out, what, other)

    @contextlib.contextmanager
    def abandoned_on_mistakes(self) -> Iterator[None]:
        """A mistake that the user corrects in the recipe must not leave a folder that then refuses the corrected recipe."""
        try:
            yield
        except UserError:
            if not (self.folder / "shards").is_dir():
                shutil.rmtree(self.folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    self.out.rmdir()
            raise

    def keep_segments(self, source_id: str, reference: np.ndarray, segments: Callable[[np.ndarray], np.ndarray]) -> None:
        """Keep what `segments` gives for a reference, for other rounds and workers, unless it is kept already."""
        path = self._segments(source_id)
        if not path.is_file():
            atomic.write_bytes(path, codec.encode_labels(segments(reference)))

    def kept_segments(self, source_id: str, reference: np.ndarray) -> np.ndarray:
        """The segments of a reference that are kept: int32 (H, W)."""
        return codec.decode_labels(self._segments(source_id).read_bytes())

    def _segments(self, source_id: str) -> Path:
        return self.folder / "segments" / f"{source_id}.png"

    def finish_shard(self, shard: Shard, state: Mapping[str, Any]) -> None:
        """Write a shard's state, which says that it is done."""
        atomic.write_text(self._state(shard), json.dumps(state, sort_keys=True))

    def shard_state(self, shard: Shard) -> dict[str, Any]:
        """The state of a shard that is done: file, split, rows, drops, bytes, sha256."""
        return json.loads(self._state(shard).read_text())

    def is_done(self, shard: Shard) -> bool:
        """Whether the shard's state exists and its file has the size written there."""
        try:
            state = self.shard_state(shard)
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        path = self.out / state["file"]
        return bool(state["rows"] == 0 or (path.is_file() and path.stat().st_size == state["bytes"]))

    def remove(self) -> None:
        """Remove the folder with all that is in it; another process may be doing the same."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_empty(self) -> None:
        """Remove the folder if nothing is in it, and then the output's folder likewise."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            self.out.rmdir()

    def _state(self, shard: Shard) -> Path:
        return self.folder / "shards" / f"{shard.name}.json"


def is_whole(recipe: GenerateRecipe, out: Path) -> bool:
    """Whether `out` holds the finished dataset of `recipe`. UserError if it holds another one, or something else."""
    workspace = Workspace(out)
    if any("\ud800" <= letter <= "\udfff" for letter in str(out.absolute())):  # pyarrow cannot write there
        raise UserError(
            f"The path {out.absolute()} is not UTF-8 text.", "Name another --out, or rename the folder that it is in."
        )
    if (out / manifest.NAME).is_file():
        other = differences(completed(manifest.read(out)["recipe"], "generate"), resolved(recipe))
        if other:
            raise already_holds(out, "a dataset of another recipe", other)
        if workspace.folder.is_dir():
            card.write(out)
            workspace.remove()
        return True
    if out.is_file():
        raise UserError(f"{out} is a file, not a folder.", "Name another --out.")
    if out.is_dir() and not workspace.folder.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty, and it is not an fgr dataset.", "Name another --out, or empty it.")
    return False


def already_holds(out: Path, what: str, other: Sequence[str]) -> UserError:
    """The error for a folder with `what`, which differs from the recipe given in the keys `other`."""
    return UserError(f"{out} already holds {what}:", "Name another --out, or give the same recipe to continue.", other[:10])
