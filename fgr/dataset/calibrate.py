"""The one scale of a dataset's degradation maps, from a percentile over many difference maps."""

import numpy as np

BINS = 1 << 16


class Calibration:
    """A histogram over [0, 1] of combined differences: memory does not grow with what it sees."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def add(self, combined: np.ndarray) -> None:
        """Count a float (H, W) map of combined differences in [0, 1]."""
        self.counts += np.bincount(np.minimum(combined.ravel() * BINS, BINS - 1).astype(np.int64), minlength=BINS)

    def scale(self, percentile: float) -> float:
        """1 / the `percentile`-th percentile (upper edge of its bin), so that this difference becomes 1 in a map.

        ValueError if nothing was counted or the percentile is zero: the restored images equal their references.
        """
        total = int(self.counts.sum())
        if not total:
            raise ValueError("no difference was counted")
        position = int(np.searchsorted(np.cumsum(self.counts), np.ceil(total * percentile / 100)))
        if position == 0:
            raise ValueError("the restored images equal their references")
        return BINS / (position + 1)
