"""Recipe keys of earlier versions, and what they are called now."""

from collections.abc import Mapping
from typing import Any

# Kind of recipe → old dotted key → the new dotted key, or a sentence (anything with a space) where no single key took its place.
RENAMED: dict[str, dict[str, str]] = {
    "annotate": {"overlap": "raters"},
    "generate": {},
    "reward": {
        "training.explode": "training.explosion_factor",
    },
    "rlhf": {
        "algorithm.dpo_beta": "algorithm.beta",
        "audit.outrun": "the lead is counted in gap closure now, not in standard deviations: audit.max_index",
        "reward.smooth": "the reward's worst case nearby is no longer offered: judge randomised copies, reward.draws=4",
        "training.explode": "training.explosion_factor",
    },
}


def modernised(tree: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], list[str]]:
    """A copy of a recipe's `tree` in which every renamed key has its new name; one line for each key that was renamed.

    Values move to the new key, unless that is given as well. A key that a sentence stands for is dropped. Use the copy alone
    to read what an earlier version wrote (`fgr.json`, `run.json`); a user's recipe is refused with the lines.
    """
    result = _copied(tree)
    lines = []
    for old, new in RENAMED[kind].items():
        found, value = _taken(result, old.split("."))
        if not found:
            continue
        if " " in new:
            lines.append(f"{old} – {new} – {value!r}")
        else:
            _given(result, new.split("."), value)
            lines.append(f"{old} – renamed to '{new}' – {value!r}")
    return result, lines


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _taken(tree: dict[str, Any], path: list[str]) -> tuple[bool, Any]:
    """Whether `path` leads to a value, and that value, which is removed."""
    *parents, last = path
    for part in parents:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            return False, None
        tree = inner
    return last in tree, tree.pop(last, None)


def _given(tree: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        inner = tree.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        tree = inner
    tree.setdefault(last, value)
