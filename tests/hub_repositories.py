"""What a double of the Hub keeps: repositories as lists of commits, a commit as a tree of files."""

import hashlib
import json
from dataclasses import dataclass, field


@dataclass
class Entry:
    """A file of a commit: content of a small one, sha256 of a large one."""

    oid: str
    size: int
    lfs: str | None = None


@dataclass
class Repository:
    kind: str
    private: bool
    commits: list[tuple[str, str, dict[str, Entry]]] = field(default_factory=list)

    def commit(self, title: str, tree: dict[str, Entry]) -> str:
        seed = json.dumps([title, len(self.commits), sorted(tree)])
        self.commits.append((hashlib.sha1(seed.encode()).hexdigest(), title, tree))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, Entry]] | None:
        for oid, _, tree in reversed(self.commits):
            if revision in ("main", oid):
                return oid, tree
        return None
