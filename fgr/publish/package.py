"""What a package for the Hub is: files and card, checked before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgr.publish.upload import Kind


@dataclass(frozen=True, slots=True)
class Consent:
    """What the person who publishes has agreed to."""

    public: bool = False  # everyone may see it
    vouched: bool = False  # they have the right to publish what has no known licence
    non_commercial: bool = False  # it is for non-commercial use only


@dataclass(frozen=True, slots=True)
class Package:
    """Files of one folder that become a repository.

    `files` are paths within `folder`; `stale` are patterns of remote files that go if they are not among them; `warnings` are
    sentences for the person who publishes; `beside` is what of another folder goes into the same repository, afterwards.
    """

    kind: Kind
    what: str
    folder: Path
    files: Sequence[str]
    stale: Sequence[str] = ()
    warnings: Sequence[str] = ()
    beside: "Package | None" = None

    def sizes(self) -> dict[str, int]:
        """Bytes by file; 0 for a card that is not written yet."""
        paths = {name: self.folder / name for name in self.files}
        own = {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}
        return own | (self.beside.sizes() if self.beside else {})


def path_warnings(files: str, names: Sequence[str]) -> list[str]:
    """A sentence that `files` will show paths of this machine, if any of the `names` (also as KIND:PATH) is one."""
    local = [text for text in names if text.startswith(("/", "~")) or text.partition(":")[2].startswith(("/", "~"))]
    return [f"{files} name paths of this machine: {', '.join(local)}."] if local else []
