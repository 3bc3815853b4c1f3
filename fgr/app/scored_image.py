"""An image with its score and map: blended, described, compared. Pure.

Arrays in, pictures and text out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fgr.reward.score import overlay, worst

SEVERITIES = ((0.02, "clean"), (0.1, "hardly anything"), (0.3, "visible defects"), (1.01, "strong defects"))
COARSE = 32  # pixels of a side to which content is reduced before it is compared
ALIKE = 0.6  # correlation of coarse luminance from which two pictures show the same …
NEAR = 6.0  # … or this mean difference of it, in steps of 8 bits: flat pictures
SAME = 0.05  # scores closer than this count as equal


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """An image, uint8 (H, W, 3), with its score and map, float32 (H, W) in [0, 1].

    `transparent` is the image as uint8 (H, W, 4) where it has transparency; `image` is then laid over white.
    """

    image: np.ndarray
    score: float
    map: np.ndarray
    transparent: np.ndarray | None = None


def blended(scored: ScoredImage, strength: float) -> np.ndarray:
    """The image with its map over it, from 0 (the image, its transparency kept) to 1 (the overlay): uint8 (H, W, 3 or 4)."""
    if strength <= 0:
        return scored.image if scored.transparent is None else scored.transparent
    over = overlay(scored.image, scored.map).astype(np.float32)
    return np.rint(scored.image * np.float32(1 - strength) + over * np.float32(strength)).astype(np.uint8)


def described(scored: ScoredImage) -> str:
    """Score and map in words, as Markdown; where the worst place is, in the ninths of the image."""
    bad = worst(scored.map)
    word = next(text for limit, text in SEVERITIES if bad < limit)
    place = f", worst at the {worst_place(scored.map)}" if bad >= SEVERITIES[0][0] else ""
    height, width = scored.map.shape
    mean = float(scored.map.mean())
    return f"**{scored.score:.3f}** · worst 1 %: {bad:.2f} – {word}{place} · mean {mean:.3f} · {width}×{height} pixels"


def worst_place(map_: np.ndarray) -> str:
    """The ninth of the image in which the smoothed map is largest."""
    smooth = cv2.GaussianBlur(map_, (0, 0), max(1.0, min(map_.shape) / 32))
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    down = ("top", "middle", "bottom")[min(2, 3 * int(row) // map_.shape[0])]
    across = ("left", "centre", "right")[min(2, 3 * int(column) // map_.shape[1])]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"


def compared(left: ScoredImage, right: ScoredImage) -> str:
    """Which of two is better, by score and by their worst places, as Markdown."""
    difference = left.score - right.score
    by_score = "neither" if abs(difference) < SAME else "the left" if difference > 0 else "the right"
    severity = worst(left.map) - worst(right.map)
    by_map = "neither" if abs(severity) < SEVERITIES[0][0] else "the right" if severity > 0 else "the left"
    text = f"Better by score: **{by_score}** ({difference:+.3f}). Cleaner where it is worst: **{by_map}** ({-severity:+.3f})."
    agree = by_score == by_map or "neither" in (by_score, by_map)
    return text if agree else f"{text} Score and map disagree: look for yourself."


def unlike(left: np.ndarray, right: np.ndarray) -> str | None:
    """Why two uint8 (H, W, 3) images cannot be compared, as a sentence: another size, or another content; None if they can."""
    sizes = [f"{image.shape[1]}×{image.shape[0]}" for image in (left, right)]
    if sizes[0] != sizes[1]:
        return (
            f"These pictures are not compared: one has {sizes[0]} pixels, the other {sizes[1]}. "
            "Choose two outputs of one input, of the same size."
        )
    coarse = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (COARSE, COARSE), interpolation=cv2.INTER_AREA).astype(np.float64)
        for image in (left, right)
    ]
    spread = float(coarse[0].std() * coarse[1].std())
    alike = float(((coarse[0] - coarse[0].mean()) * (coarse[1] - coarse[1].mean())).mean()) / spread if spread else 0.0
    if alike < ALIKE and float(np.abs(coarse[0] - coarse[1]).mean()) > NEAR:
        return (
            f"These pictures are not compared: they do not show the same (coarse structure correlates by {alike:.2f}). "
            "Scores compare outputs of one input, not one motif with another."
        )
    return None


def fitted(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The image enlarged by bicubic interpolation to (height, width): what an SR model is compared with."""
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
