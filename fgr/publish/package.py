"""What a package for the Hub is: files and card, checked before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fgr.publish.upload import Kind

CARD = "README.md"


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
    sentences for the person who publishes; `card` is what README.md says; `beside` is what of another folder goes into the same
    repository, afterwards.
    """

    kind: Kind
    what: str
    folder: Path
    files: Sequence[str]
    stale: Sequence[str] = ()
    warnings: Sequence[str] = ()
    card: str = ""
    beside: "Package | None" = None

    def sizes(self) -> dict[str, int]:
        """Bytes by file, of the card as it is going to be."""
        own = {name: (self.folder / name).stat().st_size for name in self.files if name != CARD}
        own = ({CARD: len(self.card.encode())} if CARD in self.files else {}) | own
        return own | (self.beside.sizes() if self.beside else {})


def path_warnings(files: str, names: Sequence[str]) -> list[str]:
    """A sentence that `files` will show paths of this machine, if any of the `names` (also as KIND:PATH) is one."""
    local = [text for text in names if text.startswith(("/", "~")) or text.partition(":")[2].startswith(("/", "~"))]
    return [f"{files} name paths of this machine: {', '.join(local)}."] if local else []
