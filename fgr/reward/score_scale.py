"""What scores of a reward model mean: those of clean and of restored images that it was validated on."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgr import atomic

NAME = "score_config.json"  # beside config.json; the Hub's downloads of a reward model take *config.json
LEAST = 4  # images from which on a scale is worth something
WORST = "worst: mean of the map's worst 1 %; 0 = clean, 1 = worst"


class ScoreScale(NamedTuple):
    """Mean scores of `images` clean photographs and of their restored versions; 90 % of the clean are in `low` … `high`."""

    clean: float
    restored: float
    low: float
    high: float
    images: int

    def calibrated(self, score: float) -> float:
        """A score on the scale from 0, that of the restored images, to 1, that of the clean ones; what lies beyond is cut off."""
        return min(max((score - self.restored) / (self.clean - self.restored), 0.0), 1.0)


def of_examples(rows: Sequence[Mapping[str, Any]]) -> ScoreScale | None:
    """The scale of what `examples.write` measured; None where clean images do not score above restored ones, or are too few."""
    clean = np.array([row["score_reference"] for row in rows], np.float64)
    restored = np.array([row["score_sr"] for row in rows], np.float64)
    if len(rows) < LEAST or not np.isfinite([*clean, *restored]).all() or clean.mean() - restored.mean() < 1e-6:
        return None
    low, high = np.percentile(clean, [5, 95])
    return ScoreScale(float(clean.mean()), float(restored.mean()), float(low), float(high), len(rows))


def write(folder: Path, scale: ScoreScale) -> None:
    """Write the scale into a reward model's folder."""
    atomic.write_json(folder / NAME, scale._asdict())


def read(folder: Path) -> ScoreScale | None:
    """The scale of a reward model's folder; None where it has none, as those of versions before 0.2, or an odd one."""
    try:
        values = json.loads((folder / NAME).read_text(encoding="utf-8"))
        clean, restored, low, high = (float(values[name]) for name in ("clean", "restored", "low", "high"))
        scale = ScoreScale(clean, restored, low, high, int(values["images"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return scale if all(map(math.isfinite, scale)) and scale.clean > scale.restored else None


def explanation(scale: ScoreScale | None) -> list[str]:
    """What the printed figures mean, in lines."""
    if scale is None:
        return [
            "score: larger = better, on this model's own scale: it ranks images of like content; 0 and 1 are no limits, and a "
            "flawless photograph need not have 1",
            WORST,
        ]
    return [
        f"score: larger = better, on this model's own scale, without limits: {scale.images} clean photographs that it was "
        f"validated on have {scale.clean:.3f} ({scale.low:.3f} … {scale.high:.3f}), their restored versions {scale.restored:.3f}",
        "calibrated: the score, 0 = as those restored, 1 = as those clean, or beyond",
        WORST,
    ]
