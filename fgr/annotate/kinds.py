"""The kind of defect that a painted place most likely shows, from the image and its reference. Pure."""

from typing import Any

import cv2
import numpy as np

from fgr.annotate.labelling import KINDS

DETAIL_SIGMA = 2.0  # of the Gaussian that is taken off: what remains is detail, in pixels
TINT_SIGMA = 4.0  # of the Gaussian over which chroma is compared: the eye does not resolve it finely
TINTED = 6.0  # steps of 8 bits of chroma from which a place is of another colour …
TINT_SHARE = 0.5  # … if that is also this share of what its detail differs by
LOST, KEPT = -0.15, 0.3  # log2 of the energy of detail, image to reference: to here detail is gone, to here about the same
MISSING, ECHOED = -0.15, 0.35  # correlation of the difference with the reference's detail: it is absent, or doubled
MOVED = 0.65  # correlation of the two images' details below which shapes are others
FINE = 0.35  # correlation of neighbouring pixels of what was added, below which it is grain and not texture
FLOOR = 1.0  # energy of detail that nobody sees, in squared steps of 8 bits


def kinds_of(image: np.ndarray, reference: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """The index into `labelling.KINDS` of the kind that fits each connected part of `painted` best: uint8 (H, W), elsewhere 0.

    `image` and `reference` are uint8 (H, W, 3), `painted` is boolean (H, W). The kinds follow from what was lost or added: less
    detail is painterly; more of the reference's own is ringing, other detail is noise where it is fine and false texture where it
    is coarse; as much detail that lies elsewhere is structure; another chroma over an area is colour. People correct it.
    ValueError for two sizes.
    """
    if not image.shape[:2] == reference.shape[:2] == painted.shape:
        raise ValueError(f"sizes differ: {image.shape[:2]}, {reference.shape[:2]}, {painted.shape}")
    count, labels = cv2.connectedComponents(painted.astype(np.uint8), connectivity=8)
    figures = _figures(image, reference, labels, count)
    names = [_kind(*(float(column[part]) for column in figures)) for part in range(1, count)]
    return np.array([0, *map(KINDS.index, names)], np.uint8)[labels]


def _figures(image: np.ndarray, reference: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """By part: tint; energy of detail of both images and of their difference; three correlations."""
    ours, theirs = (cv2.cvtColor(one, cv2.COLOR_RGB2YCrCb).astype(np.float32) for one in (image, reference))
    detail, original = (one[..., 0] - _blurred(one[..., 0], DETAIL_SIGMA) for one in (ours, theirs))
    change = detail - original
    tint = np.linalg.norm(_blurred(ours[..., 1:] - theirs[..., 1:], TINT_SIGMA), axis=2)
    neighbours = (np.roll(change, 1, 0) + np.roll(change, 1, 1)) / 2

    def mean(values: Any) -> np.ndarray:
        sums = np.bincount(labels.ravel(), values.ravel(), count)
        means: np.ndarray = sums / np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
        return means

    energy, before, changed = (mean(one * one) for one in (detail, original, change))
    along = mean(change * original) / np.sqrt(changed * before + FLOOR)
    alike = mean(detail * original) / np.sqrt(energy * before + FLOOR)
    coarse = mean(change * neighbours) / (changed + FLOOR)
    return mean(tint), energy, before, changed, along, alike, coarse


def _kind(tint: float, energy: float, before: float, changed: float, along: float, alike: float, coarse: float) -> str:
    gain = float(np.log2((energy + FLOOR) / (before + FLOOR)))
    if tint >= TINTED and tint >= TINT_SHARE * changed**0.5:
        return "colour"
    if along <= MISSING or (alike < MOVED and gain <= KEPT):
        return "painterly" if gain <= LOST else "structure"
    if along >= ECHOED:
        return "ringing"
    return "noise" if coarse < FINE else "false texture"


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
