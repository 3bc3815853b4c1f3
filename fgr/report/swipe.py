"""The swipe component of pages: two pictures under one zoom, a divider between them, maps laid over.

`markup` gives an element that holds its pictures; `style` and `script` stand once in a page, and the script's `fgrSwipe(element)`
wakes an element up. Nothing is loaded from anywhere, and it takes colours and font from where it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fgr.report.section import data_uri, render

LARGEST = 1024  # pixels of a side above which pictures are reduced
QUALITY = 95  # of the pictures' JPEG, colours at full resolution


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a scene: `image` as a data URI, `map` as one that lies over it, `note` for the caption."""

    name: str
    image: str
    map: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """Pictures of one size that are compared with each other, two at a time."""

    name: str
    pictures: Sequence[Picture] = field(default_factory=list)


def markup(scenes: Sequence[Scene], label: str = "Comparison of two pictures", maps_shown: bool = False) -> str:
    """The element, at first with the first two pictures of the first scene. Equal data URIs are held once.

    ValueError without scenes, or for a scene without pictures.
    """
    if not scenes or not all(scene.pictures for scene in scenes):
        raise ValueError("every scene needs a picture, and there has to be a scene")
    images: dict[str, int] = {}

    def number(uri: str | None) -> int | None:
        return None if uri is None else images.setdefault(uri, len(images))

    shown = [
        {
            "name": scene.name,
            "pictures": [
                {"name": one.name, "image": number(one.image), "map": number(one.map), "note": one.note} for one in scene.pictures
            ],
        }
        for scene in scenes
    ]
    data: dict[str, Any] = {"scenes": shown, "images": list(images)}
    has_maps = any(one.map for scene in scenes for one in scene.pictures)
    return render("swipe.html", data=data, label=label, has_maps=has_maps, maps_shown=maps_shown)


def style() -> str:
    """The style sheet, without its tag."""
    return render("swipe.css")


def script(wake: bool = True) -> str:
    """The script, without its tag: defines fgrSwipe(element), and with `wake` wakes up every element of the page.

    An element that is awake has show(scene, left, right): the number of a scene and, if wanted, the names of two pictures.
    """
    return render("swipe.js") + ("document.querySelectorAll('.swipe').forEach(fgrSwipe);\n" if wake else "")


def picture_uri(image: np.ndarray) -> str:
    """A uint8 (H, W, 3) image, reduced to LARGEST pixels, as the data URI of a JPEG."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return data_uri(cv2.imencode(".jpg", cv2.cvtColor(_reduced(image), cv2.COLOR_RGB2BGR), settings)[1].tobytes())


def map_uri(map_: np.ndarray) -> str:
    """A map, float (H, W) in [0, 1], as a data URI to lie over its picture: the worse, the brighter and the less transparent."""
    values = np.rint(np.clip(_reduced(map_.astype(np.float32)), 0, 1) * 255).astype(np.uint8)
    colours = cv2.applyColorMap(values, cv2.COLORMAP_INFERNO)
    alpha = np.clip(values.astype(np.float32) * 1.8, 0, 235).astype(np.uint8)
    return data_uri(cv2.imencode(".webp", np.dstack([colours, alpha]), [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes())


def _reduced(array: np.ndarray) -> np.ndarray:
    factor = LARGEST / max(array.shape[:2])
    if factor >= 1:
        return array
    size = [max(1, round(side * factor)) for side in array.shape[1::-1]]
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)
