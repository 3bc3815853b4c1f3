"""A training run's directory: resolved recipe, metrics.jsonl, checkpoints, and resuming from them.

RUN/run.json          kind, version, resolved recipe, facts
RUN/metrics.jsonl     one JSON object a line: step, phase, and figures
RUN/checkpoint.pt     the newest state; more steps than the run was begun with extend it from here
RUN/checkpoint-before.pt   the state before it, which a run falls back to when the newest is damaged
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgr import __version__, atomic
from fgr.errors import UserError, notice
from fgr.recipe import completed, differences
from fgr.recipe.renamed import RENAMED, modernised
from fgr.records import current_figures


class Run:
    """A run directory, opened to be written; `main` is false in every process but the first, which alone writes."""

    def __init__(self, directory: Path | str, main: bool = True) -> None:
        self.directory, self.main = Path(directory), main
        self.metrics, self.checkpoint = self.directory / "metrics.jsonl", self.directory / "checkpoint.pt"
        self.before = self.directory / "checkpoint-before.pt"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process trains the run; waits for one that does.

        A run that is refused before its first step leaves nothing: its folder would refuse the corrected recipe.
        """
        if not self.main:
            yield
            return
        was_here = self.directory.is_dir()
        begun = (self.directory / "run.json").exists()
        try:
            with atomic.alone(self.directory, f"the run {self.directory}"):
                try:
                    yield
                except UserError:
                    if not begun and not self._has_work():
                        (self.directory / "run.json").unlink(missing_ok=True)
                    raise
        finally:
            if not was_here:
                with contextlib.suppress(OSError):  # it is not empty
                    self.directory.rmdir()

    def _has_work(self) -> bool:
        """Whether anything was learned in the run, or noted of it."""
        return self.checkpoint.exists() or self.metrics.exists() or any(self.directory.glob("*/config.json"))

    def expect(self, kind: str, recipe: Mapping[str, Any], facts: Mapping[str, Any], may_grow: Sequence[str] = ()) -> None:
        """Check, and write nothing: UserError if the directory holds a run of another kind, recipe or facts, or other things.

        `recipe` and `facts` (what else determines the run: the data, say) are JSON values. The keys `may_grow` of the recipe may
        be more than they were, numbers of steps or lists of them: that extends the run, whose checkpoint must be there.
        """
        if (self.directory / "run.json").exists():
            begun = read(self.directory)
            different = [f"kind: {begun['kind']} there, {kind} here"] if begun["kind"] != kind else []
            old = completed(begun["recipe"], kind)
            grown = _grown(old, recipe, may_grow)
            different += differences(old, _without(recipe, old, grown)) + differences(begun["facts"], facts)
            if different:
                raise UserError(
                    f"{self.directory} holds a run of another recipe:",
                    "Name another --out, or give the recipe and the keys of the run that is there.",
                    different,
                )
            if grown and not (self.checkpoint.exists() or self.before.exists()):
                raise UserError(
                    f"The run in {self.directory} cannot be extended ({', '.join(grown)}): its checkpoint.pt is gone.",
                    "Restore it, or begin again in another --out.",
                )
        elif self.main and self.directory.is_dir() and any(not path.name.startswith(".") for path in self.directory.iterdir()):
            raise UserError(f"{self.directory} is not empty and not a training run.", "Name a new folder with --out.")

    def start(
        self, kind: str, recipe: Mapping[str, Any], facts: Mapping[str, Any], may_grow: Sequence[str] = (),
        finished: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Begin the run or go on with it. UserError as `expect` says; call it when everything else has been checked.

        Where the run is extended, what it wrote when it was finished (`finished`, files and folders) is removed.
        """
        self.expect(kind, recipe, facts, may_grow)
        path = self.directory / "run.json"
        content = {"fgr": __version__, "kind": kind, "recipe": dict(recipe), "facts": dict(facts)}
        if self.main and not path.exists():
            atomic.write_text(path, json.dumps(content, indent=1) + "\n")
        elif self.main and _grown(read(self.directory)["recipe"], recipe, may_grow):
            for name in finished:  # first: a run that is cut off here is finished anew
                place = self.directory / name
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            atomic.write_text(path, json.dumps(content, indent=1) + "\n")

    def log(self, **figures: Any) -> None:
        """Add a line to metrics.jsonl; what is not finite is written as null."""
        if self.main:
            line = json.dumps(atomic.finite(figures))
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def keep(self, lines: Callable[[dict[str, Any]], bool]) -> None:
        """Keep only these lines of metrics.jsonl: those written after the checkpoint that the run resumes from are dropped."""
        if self.main and self.metrics.exists():
            kept = "".join(json.dumps(line) + "\n" for line in metrics(self.directory) if lines(line))
            atomic.write_text(self.metrics, kept)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint, whole or not at all, and keep the one before it; a full disk leaves both."""
        if self.main:
            import torch

            buffer = io.BytesIO()
            torch.save(dict(state), buffer)
            with atomic.replacing(self.checkpoint) as file:
                file.write(buffer.getvalue())
                file.flush()
                os.fsync(file.fileno())
                if self.checkpoint.exists():
                    atomic.copy(self.checkpoint, self.before)

    def load(self) -> dict[str, Any] | None:
        """The state of the newest checkpoint that can be read, on the CPU, or None if there is none.

        UserError if all of them are damaged; a line on stderr where the one before the newest is used.
        """
        reasons = {}
        for path in (self.checkpoint, self.before):
            if not path.exists():
                continue
            try:
                state = _checkpoint(path)
            except Exception as error:  # torch.load raises whatever its unpickler does
                reasons[path] = " ".join(str(error).split())[:160] or type(error).__name__
                continue
            if self.main and path == self.before:
                why = f"damaged ({reasons[self.checkpoint]})" if reasons else "missing"
                notice(f"{self.checkpoint} is {why}; the run goes on from {path.name}.")
            return state
        if reasons:
            path, reason = next(iter(reasons.items()))
            raise UserError(
                f"The checkpoint {path} is damaged: {reason}" + (", and so is the one before it." if len(reasons) > 1 else ""),
                "Restore it from a copy, or delete it to begin again (finished stages are kept).",
            )
        return None


def _checkpoint(path: Path) -> dict[str, Any]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError("it holds no state")
    return state


def _grown(begun: Mapping[str, Any], recipe: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Which of the dotted `keys` are more than they were: a larger number, or a list whose last number alone is larger."""
    found = []
    for key in keys:
        old, new = (_value(tree, key) for tree in (begun, recipe))
        if isinstance(old, list) and isinstance(new, list) and old and old[:-1] == new[:-1] and len(old) == len(new):
            old, new = old[-1], new[-1]
        if isinstance(old, int) and isinstance(new, int) and new > old:
            found.append(key)
    return found


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _without(recipe: Mapping[str, Any], begun: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The recipe with the old values of these dotted keys."""
    found: dict[str, Any] = json.loads(json.dumps(recipe))
    for key in keys:
        *parents, last = key.split(".")
        inner = found
        for part in parents:
            inner = inner[part]
        inner[last] = _value(begun, key)
    return found


def read(directory: Path | str) -> dict[str, Any]:
    """What run.json holds, renamed keys of its recipe by their present names. UserError if the directory is not a run."""
    path = Path(directory) / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory} is not a training run: it has no run.json.", "Name the --out folder of a run.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict) or not {"kind", "recipe", "facts"} <= content.keys():
        raise UserError(f"{path} is damaged.", "Restore it, or begin the run again in a new folder.")
    if content["kind"] in RENAMED:
        content["recipe"] = modernised(content["recipe"], content["kind"])[0]
    return content


def metrics(directory: Path | str) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, figures under today's names; a last line cut off by a crash is left out."""
    path = Path(directory) / "metrics.jsonl"
    return list(_lines(path)) if path.exists() else []


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line, object_hook=current_figures)
        except json.JSONDecodeError:
            continue
