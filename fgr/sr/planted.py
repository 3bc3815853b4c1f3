"""`planted:KIND`: in the place of an SR output, the reference with a known defect drawn into it."""

import hashlib
import math
from typing import Any

import numpy as np

from fgr.errors import UserError
from fgr.images import defects
from fgr.sr.jobs import Job

DEFINITION = 1  # raised whenever the same image and seed give other pixels
SEVERITY = (0.05, 0.5)  # range of a defect's mean difference, drawn log-uniformly
PROBE = 256  # side of the middle of an image in which differences are taken


class PlantedDefect:
    """Draws a defect into a job's reference, at a severity that compares across kinds; what is drawn follows from the job.

    UserError for a job without a reference: a picture that is to be restored.
    """

    license = "none"
    weights = "no weights: a defect drawn into the reference"
    external = False

    def __init__(self, name: str, kind: str, scale: int) -> None:
        self.name, self.kind, self.scale = name, kind, scale
        self.digest = digest(kind)

    def settings(self, index: int = 0) -> dict[str, Any]:
        return {"tile": 0, "overlap": 0, "precision": "fp32"}

    def upscale(self, jobs: list[Job]) -> list[np.ndarray]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> np.ndarray:
        if job.reference is None:
            raise UserError(
                f"'{self.name}' draws a defect into a reference and restores nothing.",
                "Name it in `models` of fgr generate alone.",
            )
        seen = hashlib.sha256(job.reference.tobytes() + job.image.tobytes()).digest()
        rng = np.random.default_rng(int.from_bytes(seen[:8], "big"))
        target = math.exp(rng.uniform(math.log(SEVERITY[0]), math.log(SEVERITY[1])))
        return defects.matched(job.reference, self.kind, target, _difference, rng)[0]


def digest(kind: str) -> str:
    """Of what takes the place of weights: the kind, and how it is drawn."""
    return hashlib.sha256(f"planted defect {kind}, definition {DEFINITION}".encode()).hexdigest()


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    middle = tuple(slice(max(0, (side - PROBE) // 2), (side + PROBE) // 2) for side in a.shape[:2])
    return float(defects.structure_or_tint(a[middle], b[middle]).mean())
