"""What a published SR model is: its weight files, where they can be had, its licence and architecture."""

from dataclasses import dataclass

from fgr.hub_files import hub_file
from fgr.package_files import PackagedFile, packaged_file

KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"  # networks, and a first stage of a diffusion model


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A published file of weights; sha256 is known where it is in a package.

    `page` is where its authors offer a file without sources, for people alone.
    """

    name: str
    sources: tuple[str, ...]
    sha256: str | None = None
    page: str = ""

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def on_hub(self) -> list[tuple[str, str]]:
        """The repository and the path in it of every source that is on the Hub."""
        return [place for source in self.sources if (place := hub_place(source)) is not None]

    @property
    def in_packages(self) -> list[PackagedFile]:
        """Every source that is a file in a package."""
        return [place for source in self.sources if (place := packaged_file(source)) is not None]


@dataclass(frozen=True, slots=True)
class NcnnFiles:
    """Weights in ncnn's format, which `conversion` reads: the graph (.param) and the tensors (.bin) of one package."""

    param: WeightFile
    tensors: WeightFile
    digest: str  # sha256 of the tensors


@dataclass(frozen=True, slots=True)
class Release:
    """A published model. `architecture` and `tags` are what spandrel must recognise; diffusion models leave them empty.

    `ncnn` are the same weights, or the only ones where `files` is empty, and come second. `note` is for `fgr models`.
    """

    family: str
    scale: int
    license: str  # a key of licenses.LICENSES, or several joined by " AND "
    files: tuple[WeightFile, ...]
    architecture: str = ""
    tags: tuple[str, ...] = ()
    ncnn: NcnnFiles | None = None
    note: str = ""
    words: tuple[WeightFile, ...] = ()  # what only prompts need: tokenizers, taggers, captioners; not part of the digest

    @property
    def all_files(self) -> tuple[WeightFile, ...]:
        """Those of the model, and those of its prompts."""
        return tuple(dict.fromkeys((*self.files, *self.words)))

    @property
    def is_diffusion(self) -> bool:
        return not self.architecture


def hub_place(source: str) -> tuple[str, str] | None:
    """The repository and the path in it of an `hf:` source; None for an address."""
    return hub_file(source.removeprefix("hf:")) if source.startswith("hf:") else None


def home(source: str) -> str:
    """Where a source is, in short: a package of the index, a repository on the Hub, or host and repository of an address."""
    if (packaged := packaged_file(source)) is not None:
        return f"the package index ({packaged})"
    if (place := hub_place(source)) is not None:
        return f"the Hub ({place[0]})"
    return "/".join(source.split("/")[2:5])
