"""Feature differences by name: gradient similarity, or dense features of a timm network."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from fgr.backbone_weights import is_here
from fgr.backbones import Backbone, open_backbone
from fgr.devices import numerics
from fgr.errors import UserError, nearest
from fgr.hub_files import first_line
from fgr.images import difference

INSTEAD = (
    "map.features=timm:tf_efficientnet_lite0 (Apache-2.0, in the extra `offline`), "
    "map.features=timm:vit_small_patch14_dinov2.lvd142m (Apache-2.0) or map.features=gradient (no weights)"
)
KEPT_REFERENCES = 8


class FeatureDifference(Protocol):
    """A feature difference by name; `digest` identifies its weights, `origin` says where they are from."""

    name: str
    digest: str
    origin: str

    def extract(self, a: np.ndarray, b: np.ndarray) -> Any:
        """The features of two images, on the device; to be called by one thread at a time. `compare` makes a map of them."""

    @property
    def compare(self) -> Callable[[Any], np.ndarray]:
        """What makes the map of what `extract` gave, on the processor, in any thread or process."""

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The difference of two uint8 (H, W, 3) images, `a` being the reference: float32 (H, W) in [0, 1]."""


def reopen_features(name: str, device: str, calibration: Mapping[str, Any], weights: str | None = None) -> FeatureDifference:
    """Open the feature difference of a dataset, by its name and its calibration; from `weights`, where they are on this machine.

    UserError as of `open_features`, and for other weights than the dataset's maps were made with.
    """
    opened = open_features(name, device, weights if weights and Path(weights).expanduser().exists() else "")
    recorded = calibration.get("features_digest", opened.digest)
    if recorded != opened.digest:
        raise UserError(
            f"The weights of map.features='{name}' here are not those of the dataset ({opened.origin}): sha256 "
            f"{opened.digest[:16]}… instead of {recorded[:16]}….",
            "Make the same weights available: fgr.json says where they were.",
        )
    return opened


def open_features(name: str, device: str = "cpu", weights: str = "") -> FeatureDifference:
    """Open the feature difference `name` on a torch device.

    gradient       multi-scale gradient-magnitude similarity; no weights
    timm:MODEL     cosine distance of the dense features of a network that timm knows; weights as `fgr.backbone_weights` finds
                   them, or of the file or folder `weights`
    timm:FOLDER    the same for timm's own format on the disk, config.json and model.safetensors; its path holds a slash

    UserError: an unknown name; weights that are absent, gated, damaged or do not fit; a network without dense features.
    """
    if name in FEATURES:
        return FEATURES[name](device)
    model, folder = _network(name)
    backbone = open_backbone(model, folder or weights, any_size=True, instead=f"; or name another: {INSTEAD}")
    return DenseFeatures(name, backbone, device)


def to_fetch(name: str, weights: str = "") -> str:
    """The name that `fgr models NAME --fetch` takes where the weights of a feature difference are not here; empty if they are.

    UserError for an unknown name and for a file or folder that is not there. Nothing is opened or asked of the network.
    """
    if name in FEATURES:
        return ""
    model, folder = _network(name)
    if named := folder or weights:
        if not Path(named).expanduser().exists():
            raise UserError(f"There is no {named}, which the recipe names for the map's features.", "Check the path.")
        return ""
    return "" if is_here(model) else f"timm:{model}"


def _network(name: str) -> tuple[str, str]:
    """The network or the folder that `timm:…` names. UserError for another name."""
    kind, _, model = name.partition(":")
    if kind != "timm" or not model:
        raise UserError(
            f"There is no feature difference '{name}'{nearest(kind, [*FEATURES, 'timm:MODEL'])}",
            f"Known: {', '.join(FEATURES)}, timm:MODEL, timm:FOLDER.",
        )
    return ("", model) if "/" in model or os.sep in model else (model, "")


class Gradient:
    """`fgr.images.difference.gradient_difference`; its digest names the version of that definition."""

    name = "gradient"
    digest = "gms-3-scales"
    origin = "no weights"

    def extract(self, a: np.ndarray, b: np.ndarray) -> Any:
        return a, b

    def compare(self, features: Any) -> np.ndarray:
        return self.difference(*features)

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The difference of two uint8 (H, W, 3) images: float32 (H, W) in [0, 1]."""
        return difference.gradient_difference(a, b)


class DenseFeatures:
    """Cosine distance of a timm network's dense features; `digest` is the sha256 of its weights' file.

    A plain transformer gives its last block's patch tokens, a pyramid its two deepest levels, whose maps are averaged. Images
    are normalised as the network's own configuration says, keep their resolution, and are mirrored at the right and the
    bottom to whole cells of the deepest level; that margin is cut off the map. Images run one by one, so the result does not
    depend on which references are remembered.
    """

    def __init__(self, name: str, backbone: Backbone, device: str) -> None:
        import torch

        self.name = name
        self.digest, self.origin = backbone.weights.digest, backbone.weights.origin
        model = backbone.network
        self._model = model.requires_grad_(False).to(device)
        self._device = device
        mean, std = (torch.tensor(model.pretrained_cfg[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))
        self._mean, self._std = mean, std
        self._levels, self._cell = _deepest(name, model)
        self._references: OrderedDict[bytes, list[np.ndarray]] = OrderedDict()
        self.compare = partial(difference.dense_difference, cell=self._cell)
        self._refuse_unless_any_size()

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The difference of two uint8 (H, W, 3) images: float32 (H, W) in [0, 1]. The features of `a` are remembered."""
        return self.compare(self.extract(a, b))

    def extract(self, a: np.ndarray, b: np.ndarray) -> Any:
        """The images' size, and for each level the features of both."""
        if a.shape != b.shape:
            raise ValueError(f"the two images differ in size: {a.shape} and {b.shape}")
        return a.shape[:2], list(zip(self._remembered(a), self._features(b), strict=True))

    def _remembered(self, image: np.ndarray) -> list[np.ndarray]:
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(image.tobytes())
        features = self._references.pop(digest.digest(), None) or self._features(image)
        self._references[digest.digest()] = features
        if len(self._references) > KEPT_REFERENCES:
            self._references.popitem(last=False)
        return features

    def _features(self, image: np.ndarray) -> list[np.ndarray]:
        """Dense features of a uint8 (H, W, 3) image, one float32 (C, h, w) a level."""
        import torch

        rows, columns = -image.shape[0] % self._cell, -image.shape[1] % self._cell
        padded = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REFLECT)
        with numerics(torch.device(self._device), "fp32"):
            batch = torch.from_numpy(padded).to(self._device).permute(2, 0, 1)[None].float() / 255
            levels = self._model.forward_intermediates(
                (batch - self._mean) / self._std, indices=self._levels, norm=True, output_fmt="NCHW", intermediates_only=True
            )
        return [level[0].float().cpu().numpy() for level in levels]

    def _refuse_unless_any_size(self) -> None:
        try:
            self._features(np.zeros((2 * self._cell, 3 * self._cell, 3), np.uint8))
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:
            raise _unusable(self.name, f"does not take images of any size ({first_line(error)})") from None


def _deepest(name: str, model: Any) -> tuple[list[int], int]:
    """Which levels are compared, and how many pixels the deepest level's cell covers."""
    if not hasattr(model, "forward_intermediates"):
        raise _unusable(name, "gives no dense features")
    sides = [int(level["reduction"]) for level in model.feature_info]
    last = len(sides) - 1
    return ([last] if sides[last] == sides[last - 1] else [last - 1, last]), sides[last]


def _unusable(name: str, problem: str) -> UserError:
    return UserError(f"The network of '{name}' {problem}.", f"Name another: {INSTEAD}.")


FEATURES: dict[str, Callable[[str], FeatureDifference]] = {
    "gradient": lambda device: Gradient(),
}
