"""Maps of where an image is bad, by name: a reward model's, and those of its rivals.

Rivals are trivial maps, full-reference ones, any metric made local, files of others. All are float (H, W), larger = worse;
those that need a reference are absent for an image without one.
"""

import gzip
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from fgr.errors import UserError
from fgr.image_files import ImageFileError, read_file
from fgr.images.arrays import as_tensor
from fgr.images.difference import gradient_difference, pixel_difference
from fgr.images.structural import ssim_difference
from fgr.metrics import perceptual
from fgr.metrics.features import open_features
from fgr.metrics.registry import Metric
from fgr.reward import baselines
from fgr.reward.score import score

WINDOW, STEP = 64, 32  # pixels of the windows on which a metric of whole images is made local, and from one to the next
TOGETHER = 32  # windows
LIMIT = 100.0  # of values that are not finite (the PSNR of equal windows)
CUT = 10  # pixels that the maps of DeSRA's code lack in height and width


class Scene(NamedTuple):
    """An image, uint8 (H, W, 3), its file below a benchmark's folder, its reference, and the detections that come with it."""

    image: np.ndarray
    file: Path
    reference: np.ndarray | None = None
    files: Mapping[str, Path] = {}


Rival = Callable[[Scene], np.ndarray | None]  # the map, None where there is none for this image


def rivals(model: Any, metrics: Sequence[Metric], folders: Mapping[str, Path], device: str, draws: int = 0) -> dict[str, Rival]:
    """All maps to compare, by name: of a reward model (or None), of `metrics` made local, of files in `folders`."""
    found: dict[str, Rival] = {}
    if model is not None:
        found["reward"] = lambda scene: score(model, scene.image, draws=draws)[1]
    found |= {name: FolderMaps(name, folder) for name, folder in folders.items()}
    found |= {f"{metric.name}, local": LocalMetric(metric, device) for metric in metrics}
    paired = {
        "1 − SSIM": ssim_difference,
        "1 − GMS": gradient_difference,
        "LDL map": ldl_map,
        "pixel difference": pixel_difference,
    }
    if perceptual.is_at_hand("lite0-distance"):
        paired["lite0-distance"] = open_features(f"timm:{perceptual.LITE0}", device).difference
    found |= {name: _paired(difference) for name, difference in paired.items()}
    return found | {name: _alone(map_) for name, map_ in baselines.MAPS.items()}


def _paired(difference: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Rival:
    return lambda scene: None if scene.reference is None else difference(scene.reference, scene.image)


def _alone(map_: Callable[[np.ndarray], np.ndarray]) -> Rival:
    return lambda scene: map_(scene.image)


def ldl_map(reference: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The artifact map of LDL (Liang et al. 2022, equations 3 and 4) of two uint8 (H, W, 3) images: float64 (H, W).

    var(R)^(1/5) times the variance of R in windows of 7 × 7, with R the sum of the channels' |reference − image|. What LDL drops
    by its averaged network is kept: outputs alone have none.
    """
    residual = (cv2.absdiff(reference, image).astype(np.float64) / 255).sum(2)
    mean, square = (cv2.blur(one, (7, 7), borderType=cv2.BORDER_REFLECT_101) for one in (residual, residual**2))
    local = np.maximum(square - mean**2, 0) * (49 / 48)
    return np.asarray(residual.var(ddof=1) ** 0.2 * local)


class LocalMetric:
    """A metric of whole images, of windows of WINDOW pixels every STEP; a place has the mean of the windows over it."""

    def __init__(self, metric: Metric, device: str) -> None:
        self._metric, self._device = metric, device

    def __call__(self, scene: Scene) -> np.ndarray | None:
        if self._metric.needs_reference and scene.reference is None:
            return None
        height, width = scene.image.shape[:2]
        corners = [(top, left) for top in _starts(height) for left in _starts(width)]
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for begin in range(0, len(corners), TOGETHER):
            chosen = corners[begin : begin + TOGETHER]
            for (top, left), value in zip(chosen, self._values(scene, chosen), strict=True):
                total[top : top + WINDOW, left : left + WINDOW] += value
                count[top : top + WINDOW, left : left + WINDOW] += 1
        return total / count

    @torch.inference_mode()
    def _values(self, scene: Scene, corners: Sequence[tuple[int, int]]) -> np.ndarray:
        """How bad the windows are, larger = worse."""
        images = [scene.image] if scene.reference is None or not self._metric.needs_reference else [scene.image, scene.reference]
        windows = [
            as_tensor(
                [np.ascontiguousarray(one[top : top + WINDOW, left : left + WINDOW]) for top, left in corners], self._device
            )
            for one in images
        ]
        values = self._metric.measure(*windows).double().cpu().numpy()
        values = np.nan_to_num(values, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
        return values if self._metric.lower_is_better else -values


def _starts(side: int) -> list[int]:
    last = max(side - WINDOW, 0)
    return sorted({*range(0, last, STEP), last})


class FolderMaps:
    """Maps in a folder, as PNG (8 or 16 bits, larger = worse), .npy or .npy.gz: NAME.png or NAME-map16.png, as the image's path
    below the benchmark or by its name alone. UserError for a folder that does not exist."""

    def __init__(self, name: str, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} with the maps of {name}.", "Give --maps NAME=DIR.")
        self._name, self._folder = name, folder
        self._taken: dict[Path, Path] = {}

    def __call__(self, scene: Scene) -> np.ndarray:
        """ImageFileError for an image without a map."""
        for stem in (scene.file.with_suffix(""), Path(scene.file.stem)):
            for ending in (".png", ".npy", ".npy.gz", f"{scene.file.suffix}-map16.png"):
                path = self._folder / f"{stem}{ending}"
                if path.is_file():
                    return read_map(self._own(path, scene.file), scene.image.shape[:2])
        raise ImageFileError(f"{self._name} has no map for {scene.file} in {self._folder}.", "Add it.", "no_map")

    def _own(self, path: Path, file: Path) -> Path:
        if self._taken.setdefault(path, file) != file:
            raise UserError(
                f"{path} would be the map of both {self._taken[path]} and {file}.",
                "Arrange the maps in folders as the images are.",
            )
        return path


def given(name: str) -> Rival:
    """The detections called `name` that come with a benchmark."""
    return lambda scene: read_map(scene.files[name], scene.image.shape[:2]) if name in scene.files else None


def read_map(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A map from a file as float32 (H, W), brought to `shape`; PNG values are divided by their type's largest. ImageFileError."""
    data = read_file(path)
    if path.suffix == ".png":
        png = np.frombuffer(data, np.uint8)
        found: np.ndarray | None = cv2.imdecode(png, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE) if data else None
        found = None if found is None else found.astype(np.float32) / (255 if found.dtype == np.uint8 else 65535)
    else:
        found = _array(data, path.suffix == ".gz")
    if found is None or not np.isfinite(found).all():
        raise ImageFileError(f"{path} is not a map of finite numbers.", "Write a grey PNG, or an array (H, W) as .npy.")
    return fitted(found.astype(np.float32), shape, path, cv2.INTER_LINEAR)


def _array(data: bytes, packed: bool) -> np.ndarray | None:
    try:
        found = np.load(io.BytesIO(gzip.decompress(data) if packed else data), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    found = np.squeeze(found)
    return found if found.ndim == 2 and found.dtype.kind in "biuf" else None


def fitted(values: np.ndarray, shape: tuple[int, ...], path: Path, how: int) -> np.ndarray:
    """An array (h, w) as (H, W): padded if it is one of DeSRA's, which lack 5 pixels each side; scaled if its sides are in
    proportion. ImageFileError otherwise."""
    (height, width), (h, w) = shape, values.shape
    if (height, width) == (h, w):
        return values
    if (height - h, width - w) == (CUT, CUT):
        return np.pad(values, CUT // 2)
    if abs(h * width - w * height) > max(height, width, h, w):
        raise ImageFileError(
            f"{path} has {w}×{h} pixels, which is no scaled copy of the image's {width}×{height}.",
            "Check the file.",
            "other_size",
        )
    return cv2.resize(values, (width, height), interpolation=how)
