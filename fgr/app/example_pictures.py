"""Example pictures of the page: two photographs of scikit-image, and what can go wrong with them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIDE = 256  # pixels
SCALE = 4  # of the low-resolution picture


@dataclass(frozen=True, slots=True)
class Examples:
    """Files: single pictures, pairs to compare, and low-resolution pictures."""

    pictures: list[Path]
    pairs: list[tuple[Path, Path]]
    low: list[Path]


def written(folder: Path) -> Examples:
    """The examples, as PNG files in `folder`."""
    import skimage.data

    from fgr.images import defects

    def write(name: str, image: np.ndarray) -> Path:
        path = folder / f"{name}.png"
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return path

    def spoilt(image: np.ndarray, kind: str, strength: float) -> np.ndarray:
        return defects.plant(image, kind, strength, np.random.default_rng(0))

    cat, astronaut = (
        np.ascontiguousarray(image[:SIDE, 100 : 100 + SIDE]) for image in (skimage.data.chelsea(), skimage.data.astronaut())
    )
    sharp, smooth = write("cat", cat), write("cat-smoothed", spoilt(cat, "smoothing", 0.9))
    grain, ringing = (
        write("astronaut-grain", spoilt(astronaut, "grain", 0.5)),
        write("astronaut-ringing", spoilt(astronaut, "ringing", 0.4)),
    )
    low = write("cat-low-resolution", cv2.resize(cat, (SIDE // SCALE, SIDE // SCALE), interpolation=cv2.INTER_AREA))
    return Examples([sharp, smooth, ringing], [(smooth, sharp), (ringing, grain)], [low])
