"""Screening photographs: which crops are good enough to serve as references. Pure."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fgr.records import SPLITS


@dataclass(frozen=True, slots=True)
class Crop:
    """A window of a photograph and its texture: the mean gradient in 8-bit steps."""

    top: int
    left: int
    texture: float


def choose_crops(
    image: np.ndarray, size: int, count: int, min_texture: float, min_sharpness: float
) -> tuple[list[Crop], Counter[str]]:
    """The `count` windows of `size` × `size` pixels richest in texture, of an aligned grid centred in the photograph.

    `image` is uint8 (H, W, 3). Windows never overlap. Those that are flat or blurred are left out and counted; a photograph
    smaller than a window counts as too_small; the other reasons count windows.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        return [], Counter(too_small=1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    tops, lefts = ([(side % size) // 2 + i * size for i in range(side // size)] for side in (height, width))
    kept, drops = [], Counter[str]()
    for top in tops:
        for left in lefts:
            window = grey[top : top + size, left : left + size]
            texture, sharpness = texture_of(window), sharpness_of(window)
            if texture < min_texture:
                drops["flat_crop"] += 1
            elif sharpness < min_sharpness:
                drops["blurred_crop"] += 1
            else:
                kept.append(Crop(top, left, texture))
    kept.sort(key=lambda crop: (-crop.texture, crop.top, crop.left))
    return kept[:count], drops


def texture_of(grey: np.ndarray) -> float:
    """Mean gradient magnitude of a uint8 (H, W) image in 8-bit steps a pixel."""
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return float(cv2.magnitude(across, down).mean(dtype=np.float64))


def sharpness_of(grey: np.ndarray) -> float:
    """Variance of the Laplacian of a uint8 (H, W) image: low in blurred pictures."""
    return float(cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64))


def perceptual_hash(image: np.ndarray) -> int:
    """The 64-bit DCT hash of a uint8 (H, W, 3) image, alike for pictures that look alike."""
    import imagehash
    from PIL import Image

    return int(str(imagehash.phash(Image.fromarray(image))), 16)


def near_duplicates(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Which of the hashes, uint64 (N,), are at most `bits` bits from an earlier one that is no duplicate itself: bool (N,)."""
    duplicate = np.zeros(len(hashes), bool)
    kept = np.empty(len(hashes), np.uint64)
    number = 0
    for i, one in enumerate(hashes):
        duplicate[i] = bool((np.bitwise_count(kept[:number] ^ one) <= bits).any())
        if not duplicate[i]:
            kept[number] = one
            number += 1
    return duplicate


def pixel_digest(image: np.ndarray) -> str:
    """32 hexadecimal digits that identify an image's shape and pixels."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def splits_of(photo_ids: Sequence[str], shares: Mapping[str, float]) -> tuple[dict[str, str], dict[str, str]]:
    """The split of every photograph, as `split_of` says, but that none with a share is empty; and which one filled such a split.

    An empty split is given the photograph whose digest lies nearest, from a split that has several: added photographs move none
    but those. ValueError for fewer photographs than splits.
    """
    wanted = [split for split in SPLITS if shares[split]]
    if len(photo_ids) < len(wanted):
        raise ValueError(f"{len(photo_ids)} photographs cannot fill {len(wanted)} splits")
    found = {photo_id: split_of(photo_id, shares) for photo_id in photo_ids}
    moved: dict[str, str] = {}
    for split in wanted:
        counts = Counter(found.values())
        if not counts[split]:
            low = sum(shares[one] for one in SPLITS[: SPLITS.index(split)])
            free = [photo_id for photo_id, of in found.items() if counts[of] > 1]
            nearest = min(free, key=lambda one: (max(low - _position(one), _position(one) - low - shares[split]), one))
            found[nearest] = split
            moved[split] = nearest
    return found, moved


def _position(photo_id: str) -> float:
    """Where a digest lies in [0, 1)."""
    return int(photo_id[:13], 16) / 16**13


def split_of(photo_id: str, shares: Mapping[str, float]) -> str:
    """The split of a photograph, from its digest alone: other photographs do not move it."""
    position = _position(photo_id)
    for split in SPLITS:
        position -= shares[split]
        if position < 0:
            return split
    return next(split for split in reversed(SPLITS) if shares[split])
