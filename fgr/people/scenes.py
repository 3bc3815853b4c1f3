"""Scenes as training, validation and test part: what is learned of a public set, and what measured.

The part follows from the scene's name alone, so that training and evaluation agree without a list of names.
"""

import hashlib

from fgr.errors import UserError

PARTS = {"train": 0.6, "validation": 0.1, "test": 0.3}  # shares of scenes


def part_of(scene: str) -> str:
    """The part of a scene: images of one photograph are never in two."""
    place = int.from_bytes(hashlib.sha256(scene.strip().casefold().encode()).digest()[:8]) / 2**64
    for part, share in PARTS.items():
        if place < share:
            return part
        place -= share
    return "test"


def expect_part(split: str | None) -> None:
    """UserError for a split that benchmarks do not have."""
    if split is not None and split not in PARTS:
        raise UserError(f"A benchmark has no split '{split}'.", f"Known: {', '.join(PARTS)}; without --split all of it.")
